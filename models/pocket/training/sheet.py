"""Paint a contact sheet of every subject, each over its name, with the runtime: no torch here."""

import argparse
from pathlib import Path

from PIL import Image, ImageDraw

from pleinair.runtime import StableDiffusionPipeline

from .captions import SUBJECTS, article

COLUMNS = 10
CELL = 128
LABEL = 16


def paint(model: Path, prompts: list[str], seed: int, **settings: object) -> list[Image.Image]:
    """One picture a prompt; prompt number n is painted from `seed + n`."""
    pipe = StableDiffusionPipeline.from_pretrained(model)
    return pipe(prompts, seed=seed, **settings).images


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
    pocket = Path(__file__).parents[1]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=pocket, help="a converted folder")
    parser.add_argument("--out", type=Path, default=pocket / "sheet.png")
    parser.add_argument("--prompt", default="{}", help="the prompt, {} standing for the subject")
    parser.add_argument("--steps", type=int, help="default: the model's own")
    parser.add_argument("--guidance-scale", type=float, help="default: the model's own")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    prompts = [args.prompt.format(article(subject)) for subject in SUBJECTS]
    settings = {"num_inference_steps": args.steps, "guidance_scale": args.guidance_scale}
    contact_sheet(paint(args.model, prompts, args.seed, **settings), list(SUBJECTS)).save(args.out)


if __name__ == "__main__":
    main()
