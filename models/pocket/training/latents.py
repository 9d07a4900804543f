"""Draw scenes and encode them once, so that diffusion training reads no pixels.

Writes `work/latents.pt`: for each kind of scene a list of scenes that training may see, and their
latents, float16 (scenes, 4, h, w): posterior means times the autoencoder's scaling factor.
"""

import argparse
from random import Random

import numpy as np
import torch
from diffusers import AutoencoderKL

from . import WORK
from .loop import pick_device
from .pictures import Icons, as_tensor, render
from .scenes import Scene, draw_seen

SCENES = {"single": 32_000, "pair": 20_000, "count": 10_000}
BATCH = 64


@torch.inference_mode()
def encode(vae: AutoencoderKL, pixels: torch.Tensor) -> torch.Tensor:
    """float32 (B, 3, H, W) in -1..1 to scaled latents (B, 4, h, w)."""
    pixels = pixels.to(vae.device, memory_format=torch.channels_last)
    return vae.encode(pixels).latent_dist.mean * vae.config.scaling_factor


def encode_scenes(scenes: list[Scene], vae: AutoencoderKL, seed: int) -> torch.Tensor:
    icons, random = Icons(), np.random.default_rng(seed)
    rows = []
    for start in range(0, len(scenes), BATCH):
        drawn = [render(scene, icons, random) for scene in scenes[start : start + BATCH]]
        rows.append(encode(vae, as_tensor(drawn)).half().cpu())
        print(f"\r{start + len(drawn)}/{len(scenes)}", end="", flush=True)
    print()
    return torch.cat(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--share", type=float, default=1.0, help="of the scenes (default: all)")
    share = parser.parse_args().share
    vae = AutoencoderKL.from_pretrained(WORK / "vae").to(pick_device())
    vae.to(memory_format=torch.channels_last)
    random, encoded = Random(0), {}
    for seed, (kind, count) in enumerate(SCENES.items()):
        scenes = [draw_seen(random, kind) for _ in range(round(count * share))]
        plain = [(scene.things, scene.style, scene.background) for scene in scenes]
        encoded[kind] = (plain, encode_scenes(scenes, vae, seed))
        print(kind, tuple(encoded[kind][1].shape), f"std {encoded[kind][1].float().std():.3f}")
    torch.save(encoded, WORK / "latents.pt")


if __name__ == "__main__":
    main()
