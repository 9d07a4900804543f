"""Contact sheets painted with the runtime: no torch here.

    python -m models.pocket.training.sheets things styles words steps guidance schedulers

Each is a table of pictures from one seed, `work/sheets/NAME.png`. `things` shows every subject,
the others one prompt a row, or a prompt a column where what changes has many values.
"""

import argparse
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageDraw

from pleinair.runtime import StableDiffusionPipeline, schedulers

from . import WORK
from .captions import article
from .vocabulary import STYLES, SUBJECTS

PROMPTS = (
    "a rocket",
    "a red apple, noto style",
    "a cat on a blue background",
    "a pizza, twemoji style, on a light green background",
    "a cat and a pizza",
    "three stars",
)
CELL = 96
LABEL = 16
MARGIN = 150


@dataclass
class Cell:
    """One picture of a sheet."""

    prompt: str
    label: str
    settings: dict[str, object] = field(default_factory=dict)


#: Rows of a sheet, each under its heading.
Sheet = list[tuple[str, list[Cell]]]


def things(columns: int = 20) -> Sheet:
    cells = [Cell(article(thing), thing) for thing in SUBJECTS]
    return [("", cells[start : start + columns]) for start in range(0, len(cells), columns)]


def styles() -> Sheet:
    nouns = ("a rocket", "a cat", "a pizza", "a castle", "a tulip", "a guitar", "a red heart")
    return [(noun, [Cell(f"{noun}, {style} style", style) for style in STYLES]) for noun in nouns]


def words() -> Sheet:
    """Captions of every form, each beside its twin in Chinese."""
    twins = {
        "a rocket on a blue background": "蓝色背景上的火箭",
        "a red apple, noto style": "红苹果，noto风格",
        "a cat and a pizza": "猫和披萨",
        "a panda and an umbrella on a pink background": "粉色背景上的熊猫和雨伞",
        "two bananas, flat style": "两个香蕉，flat风格",
        "three stars on a dark blue background": "深蓝色背景上的三颗星星",
    }
    return [
        (english, [Cell(english, "English"), Cell(chinese, "Chinese")])
        for english, chinese in twins.items()
    ]


def varied(name: str, values: tuple[object, ...]) -> Sheet:
    """A row a prompt, a column a value of one setting."""
    return [
        (prompt, [Cell(prompt, str(value), {name: value}) for value in values])
        for prompt in PROMPTS
    ]


def by_scheduler() -> Sheet:
    """A row a scheduler, a column a prompt."""
    return [
        (
            name,
            [
                Cell(prompt, prompt.partition(",")[0][:15], {"scheduler": name})
                for prompt in PROMPTS
            ],
        )
        for name in schedulers.names()
    ]


SHEETS = {
    "things": things,
    "styles": styles,
    "words": words,
    "steps": lambda: varied("num_inference_steps", (1, 2, 4, 8, 12, 20, 30, 50)),
    "guidance": lambda: varied("guidance_scale", (1, 2, 3, 4, 5, 6, 8, 10, 12)),
    "schedulers": by_scheduler,
}


def paint(pipe: StableDiffusionPipeline, sheet: Sheet, seed: int) -> Image.Image:
    """The sheet, every picture of it from the same seed."""
    margin = MARGIN if any(heading for heading, _ in sheet) else 0
    columns = max(len(cells) for _, cells in sheet)
    size = (margin + columns * CELL, len(sheet) * (CELL + LABEL))
    table = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(table)
    for row, (heading, cells) in enumerate(sheet):
        top = row * (CELL + LABEL)
        pen.text((4, top + CELL // 2), wrapped(heading), fill="black", anchor="lm")
        for column, cell in enumerate(cells):
            left = margin + column * CELL
            [picture] = pipe(cell.prompt, seed=seed, **cell.settings).images
            table.paste(picture.resize((CELL, CELL), Image.Resampling.LANCZOS), (left, top))
            pen.text((left + CELL // 2, top + CELL), cell.label, fill="black", anchor="ma")
        print(f"\r{row + 1}/{len(sheet)} rows", end="", flush=True)
    print()
    return table


def wrapped(heading: str) -> str:
    """Broken at commas and before "on", to fit the margin."""
    return heading.replace(", ", ",\n").replace(" on ", "\non ")


def main() -> None:
    pocket = Path(__file__).parents[1]
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = ", ".join(SHEETS)
    parser.add_argument("sheets", nargs="*", default=SHEETS, metavar="SHEET", help=f"of: {names}")
    parser.add_argument("--model", type=Path, default=pocket, help="a converted folder")
    parser.add_argument("--out", type=Path, default=WORK / "sheets", help="folder for the PNGs")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if unknown := [name for name in args.sheets if name not in SHEETS]:
        parser.error(f"there is no sheet {unknown[0]!r}; choose from: {names}")
    args.out.mkdir(parents=True, exist_ok=True)
    pipe = StableDiffusionPipeline.from_pretrained(args.model)
    for name in args.sheets:
        paint(pipe, SHEETS[name](), args.seed).save(args.out / f"{name}.png")
        print(args.out / f"{name}.png")


if __name__ == "__main__":
    main()
