"""Encode every subject, style and background once, so that diffusion training reads no pixels.

Writes `work/latents.pt`: float16 (subjects, styles, backgrounds, takes, 4, 16, 16), posterior means
times the autoencoder's scaling factor. The takes of one background are drawn from the variants in
turn, so all variants are used although each background holds a few.
"""

import torch
from diffusers import AutoencoderKL

from . import WORK
from .captions import BACKGROUNDS
from .data import VARIANTS, load_subjects
from .loop import pick_device
from .pictures import composite

TAKES = 3


@torch.inference_mode()
def encode_all() -> torch.Tensor:
    device = pick_device()
    vae = AutoencoderKL.from_pretrained(WORK / "vae").to(device, memory_format=torch.channels_last)
    subjects = torch.from_numpy(load_subjects())
    colours = torch.tensor(list(BACKGROUNDS.values()), dtype=torch.float32)
    grounds = torch.arange(len(colours)).repeat_interleave(TAKES)
    variants = torch.arange(len(grounds)) % VARIANTS
    rows = []
    for icon in subjects.flatten(0, 1):
        pixels = composite(icon[variants], colours[grounds]).to(device)
        means = vae.encode(pixels.contiguous(memory_format=torch.channels_last)).latent_dist.mean
        rows.append((vae.config.scaling_factor * means).half().cpu().contiguous())
    latents = torch.stack(rows)
    return latents.view(*subjects.shape[:2], len(colours), TAKES, *latents.shape[-3:])


def main() -> None:
    latents = encode_all()
    torch.save(latents, WORK / "latents.pt")
    print(f"latents {tuple(latents.shape)}, std {latents.float().std():.3f}")


if __name__ == "__main__":
    main()
