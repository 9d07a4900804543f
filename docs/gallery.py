"""Paint docs/gallery.md and its pictures: each feature once, with the bundled model.

    python docs/gallery.py

Every entry is the command lines that a reader can type, and the files of theirs that are shown.
"""

import os
import shlex
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from pleinair.runtime.catalog import bundled
from pleinair.runtime.cli import main as pleinair

DOCS = Path(__file__).parent
SIDE = 128  # of a picture as it is shown; the model paints 64
HEAD = """\
# Gallery

Each feature once, painted by the bundled model, [pocket](../models/pocket/README.md), which knows
317 small things and nothing else. `python docs/gallery.py` paints this page anew; pictures are
shown at twice their size. What a model of pocket's kind cannot do (editing by instruction,
inpainting UNets of 9 channels, ControlNet, the x4 upscaler, SDXL) is shown by tests alone, against
diffusers: [coverage.md](coverage.md).
"""


@dataclass(frozen=True)
class Entry:
    """A feature: command lines of `demo.py`, and which of their files are shown in a row."""

    name: str
    title: str
    words: str
    commands: tuple[str, ...]
    shown: tuple[str, ...]

    def paint(self) -> Image.Image:
        """Run the commands in the current folder."""
        for command in self.commands:
            if pleinair(["--model", str(bundled()), *shlex.split(command)]):
                raise SystemExit(f"{self.name}: {command} failed")
        return row([Image.open(path).convert("RGB") for path in self.shown])

    def text(self) -> str:
        lines = "\n".join(f"python demo.py {command}" for command in self.commands)
        return (
            f"## {self.title}\n\n{self.words}\n\n```bash\n{lines}\n```\n\n"
            f"![{self.title}](gallery/{self.name}.png)\n"
        )


SHEET = "outputs/txt2img-samples/compare-0000.png"

ENTRIES = (
    Entry(
        "styles",
        "Text to image",
        "The four drawing styles the model was trained in, in English and in Chinese.",
        (
            '--compare "prompt=a rocket, noto style|a rocket, twemoji style|a rocket, fluent '
            'style|a rocket, flat style|蓝色背景上的火箭|a cat and a pizza|three stars" --seed 1',
        ),
        (SHEET,),
    ),
    Entry(
        "steps",
        "Steps and schedulers on one sheet",
        "One seed; what each number of steps gives with each solver.",
        (
            '--prompt "a castle on a pink background" --seed 3 '
            "--compare steps=2,4,8,12,20,50 scheduler=ddim,euler,dpmpp_2m,unipc",
        ),
        (SHEET,),
    ),
    Entry(
        "image-to-image",
        "Image to image",
        "From a picture to another one, by how much it may change.",
        (
            '--prompt "a red apple" --seed 2 --output apple.png',
            '--prompt "a tomato on a light blue background" --init-img apple.png --seed 5 '
            "--compare strength=0.2,0.4,0.6,0.8,1",
        ),
        ("apple.png", SHEET),
    ),
)


def row(pictures: list[Image.Image]) -> Image.Image:
    """Pictures side by side; a single painted one at `SIDE`, a sheet as it is."""
    shown = [
        picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        if picture.size == (64, 64)
        else picture
        for picture in pictures
    ]
    width, height = sum(p.width + 8 for p in shown) - 8, max(p.height for p in shown)
    whole = Image.new("RGB", (width, height), "white")
    left = 0
    for picture in shown:
        whole.paste(picture, (left, (height - picture.height) // 2))
        left += picture.width + 8
    return whole


def main() -> None:
    (DOCS / "gallery").mkdir(exist_ok=True)
    here = Path.cwd()
    for entry in ENTRIES:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            try:
                picture = entry.paint()
            finally:
                os.chdir(here)
        picture.save(DOCS / "gallery" / f"{entry.name}.png", optimize=True)
        print(entry.name, file=sys.stderr)
    page = "\n".join((HEAD, *(entry.text() for entry in ENTRIES)))
    (DOCS / "gallery.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
