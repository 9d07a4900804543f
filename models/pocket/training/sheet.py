"""Paint a contact sheet of every subject, each under its caption, from a diffusers folder."""

import argparse
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image, ImageDraw

from . import WORK
from .captions import SUBJECTS, article
from .loop import pick_device

COLUMNS = 10
CELL = 128
LABEL = 16


def paint(
    folder: Path, prompts: list[str], steps: int, guidance_scale: float, seed: int
) -> list[Image.Image]:
    """One 64x64 picture a prompt; prompt number n starts from noise of seed + n."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder).to(pick_device())
    pipeline.set_progress_bar_config(disable=True)
    pictures = []
    for start in range(0, len(prompts), COLUMNS):
        row = prompts[start : start + COLUMNS]
        pictures += pipeline(
            row,
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            generator=[torch.Generator().manual_seed(seed + start + n) for n in range(len(row))],
        ).images
    return pictures


def contact_sheet(pictures: list[Image.Image], labels: list[str]) -> Image.Image:
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * CELL, rows * (CELL + LABEL)), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        left, top = place % COLUMNS * CELL, place // COLUMNS * (CELL + LABEL)
        sheet.paste(picture.resize((CELL, CELL), Image.Resampling.LANCZOS), (left, top))
        pen.text((left + CELL // 2, top + CELL), label, fill="black", anchor="ma")
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description="Paint a contact sheet of every subject.")
    parser.add_argument("--checkpoint", type=Path, default=WORK / "checkpoint")
    parser.add_argument("--out", type=Path, default=WORK / "sheet.png")
    parser.add_argument("--prompt", default="{}", help="the prompt, {} standing for the subject")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance-scale", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    prompts = [args.prompt.format(article(subject)) for subject in SUBJECTS]
    pictures = paint(args.checkpoint, prompts, args.steps, args.guidance_scale, args.seed)
    contact_sheet(pictures, list(SUBJECTS)).save(args.out)


if __name__ == "__main__":
    main()
