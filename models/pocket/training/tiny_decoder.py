"""Distil the autoencoder into a tiny one, for fast decoding and live previews.

diffusers' AutoencoderTiny, which has the form of TAESD: plain 3x3 convolutions and ReLU, no norms,
no attention. Each half learns what its half of the VAE answers. For the decoder that is the VAE's
picture of the same latents and not the true one: a preview should show what the decoder will
paint, and latents that the U-Net paints have no true picture. The latents are drawn from the
posterior, so that the decoder knows latents beside those of real pictures.

Writes `work/tiny_vae/` (diffusers). It reads and writes latents as the U-Net sees them, scaled.
"""

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch.nn import functional

from . import WORK
from .autoencoder import picture_losses
from .loop import autocast, parse_options, pick_device, train
from .pictures import Renders
from .workers import is_first_worker

WIDTH = 24


def build(vae: AutoencoderKL) -> AutoencoderTiny:
    """A random tiny autoencoder between the same pictures and latents as `vae`.

    Most blocks stand in the decoder, which is why it is made, and below full size, where they
    cost little.
    """
    levels = len(vae.config.block_out_channels)  # each but one halves the picture's sides
    return AutoencoderTiny(
        latent_channels=vae.config.latent_channels,
        encoder_block_out_channels=(WIDTH,) * levels,
        decoder_block_out_channels=(WIDTH,) * levels,
        num_encoder_blocks=(1,) * levels,
        num_decoder_blocks=(2,) * (levels - 1) + (1,),
    )


def distillation_losses(
    tiny: AutoencoderTiny, vae: AutoencoderKL, pixels: torch.Tensor
) -> dict[str, torch.Tensor]:
    """`l1` of the pictures, `latents`, the L1 of the latents, and `loss`; pixels (B, 3, H, W)."""
    scale = vae.config.scaling_factor
    with autocast():
        with torch.no_grad():
            posterior = vae.encode(pixels).latent_dist
            latents = posterior.sample()
            picture = vae.decode(latents).sample.float()
        painted = tiny.decode(scale * latents).sample.float()
        encoded = tiny.encode(pixels).latents.float()
    scalars = picture_losses(painted, picture)
    scalars["latents"] = functional.l1_loss(encoded, scale * posterior.mean.float())
    scalars["loss"] = scalars["loss"] + scalars["latents"]  # the halves share no weights
    return scalars


def psnr(painted: torch.Tensor, pixels: torch.Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pictures in -1..1, the painted ones clipped to that."""
    error = functional.mse_loss(painted.clamp(-1.0, 1.0), pixels.clamp(-1.0, 1.0))
    return 10.0 * torch.log10(4.0 / error).item()


@torch.no_grad()
def compare(tiny: AutoencoderTiny, vae: AutoencoderKL, pixels: torch.Tensor) -> dict[str, float]:
    """PSNRs in dB of the decoders' pictures, from the latents that the VAE gives to `pixels`."""
    latents = vae.encode(pixels).latent_dist.mean
    picture = vae.decode(latents).sample
    painted = tiny.decode(vae.config.scaling_factor * latents).sample
    return {
        "tiny against VAE": psnr(painted, picture),
        "tiny against true": psnr(painted, pixels),
        "VAE against true": psnr(picture, pixels),
    }


def main() -> None:
    options = parse_options(minutes=6.0, batch=16, rate=2e-3)
    device = pick_device()
    torch.manual_seed(options.seed)  # the same first weights on every worker
    vae = AutoencoderKL.from_pretrained(WORK / "vae").requires_grad_(False)
    vae.to(device, memory_format=torch.channels_last)
    tiny = build(vae).to(device, memory_format=torch.channels_last)

    def losses(renders: Renders, size: int, share: float) -> dict[str, torch.Tensor]:
        pixels = renders.batch(size).to(device, memory_format=torch.channels_last)
        return distillation_losses(tiny, vae, pixels)

    train("tiny_decoder", tiny, Renders(), losses, options)
    if is_first_worker():
        tiny.save_pretrained(WORK / "tiny_vae")
        fixed = Renders()
        fixed.seed(2**31)  # no stream of training
        ratios = compare(tiny, vae, fixed.batch(256).to(device, memory_format=torch.channels_last))
        print(", ".join(f"{name} {ratio:.2f} dB" for name, ratio in ratios.items()))


if __name__ == "__main__":
    main()
