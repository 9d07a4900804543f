"""Refine the decoder while the encoder stands still.

Latents keep their meaning, so this may run before or after the diffusion stage. Without the KL term
and without the encoder's share of the work, the decoder's pictures gain sharpness fast.

Rewrites `work/vae/`, and the copy of it in `work/checkpoint/` if that is there.
"""

import torch
from diffusers import AutoencoderKL

from . import WORK
from .autoencoder import picture_losses
from .loop import autocast, parse_options, pick_device, train
from .pictures import Renders
from .workers import is_first_worker


def main() -> None:
    options = parse_options(minutes=8.0, batch=16, rate=6e-4)
    device = pick_device()
    vae = AutoencoderKL.from_pretrained(WORK / "vae")
    vae.to(device, memory_format=torch.channels_last)
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)

    def losses(renders: Renders, size: int, share: float) -> dict[str, torch.Tensor]:
        pixels = renders.batch(size).to(device, memory_format=torch.channels_last)
        with autocast():
            with torch.no_grad():
                latents = vae.encode(pixels).latent_dist.sample()
            painted = vae.decode(latents).sample.float()
        return picture_losses(painted, pixels)

    train("decoder", vae, Renders(), losses, options)
    if is_first_worker():
        vae.save_pretrained(WORK / "vae")
        if (WORK / "checkpoint").exists():
            vae.save_pretrained(WORK / "checkpoint" / "vae")


if __name__ == "__main__":
    main()
