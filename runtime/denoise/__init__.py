"""What the denoising loop works with: denoiser, guidance, kept features, starts, noise."""
