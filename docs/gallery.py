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

from pleinair.runtime.cli import main as pleinair
from pleinair.runtime.model.catalog import bundled

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
GRID = "outputs/txt2img-samples/grid-0000.png"
LCM_LORA = "models/pocket/source/lcm_lora/pytorch_lora_weights.safetensors"

ENTRIES = (
    Entry(
        "styles",
        "Text to image",
        "Things, drawing styles, grounds, pairs and counts; in English and in Chinese.",
        (
            '--seed 1 --compare "prompt=a rocket, noto style|a rocket, twemoji style|'
            "a rocket, fluent style|a rocket, flat style|蓝色背景上的火箭|a cat and a pizza|"
            'three stars"',
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
        "guidance",
        "Guidance",
        "How strictly the prompt is followed; 1 is no guidance, at half the work.",
        ('--prompt "a panda on a yellow background" --seed 4 --compare scale=1,2,4,6,8,12',),
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
    Entry(
        "inpainting",
        "Inpainting",
        "The white half is painted anew, the rest comes back dot for dot; any model does it.",
        (
            '--prompt "a cat and a pizza" --seed 1 --output pair.png',
            '--prompt "a cat and a tomato" --init-img pair.png --mask mask.png --keep-unmasked '
            "--seed 2 --output changed.png",
        ),
        ("pair.png", "mask.png", "changed.png"),
    ),
    Entry(
        "variations",
        "Variations",
        "The start noise turned step by step towards that of another seed.",
        (
            '--prompt "a robot" --seed 7 --variation-seed 8 '
            "--compare variation-strength=0,0.2,0.4,0.6,0.8,1",
        ),
        (SHEET,),
    ),
    Entry(
        "prompts",
        "Prompts that change on the way",
        "`[from:to:when]` changes words at a share of the steps, `[a|b]` takes turns, and a weight "
        "makes a word count more or less.",
        (
            '--seed 3 --compare "prompt=a lion face|a [lion face:pizza:0.1]|'
            "a [lion face:pizza:0.3]|a [lion face|pizza]|a pizza on a (blue:0.4) background|"
            'a pizza on a (blue:1.3) background"',
        ),
        (SHEET,),
    ),
    Entry(
        "wildcards",
        "Words drawn by seed",
        "With `--wildcards`, each picture draws its own words; the file says which.",
        (
            '--prompt "a {rocket|castle|tulip} on a {pink|light blue|yellow} background" '
            "--wildcards --seed 20 --n_samples 6 --n_rows 6",
        ),
        (GRID,),
    ),
    Entry(
        "few-steps",
        "Few steps by a LoRA",
        "Four steps without guidance: as they are, and with the model's latent consistency LoRA.",
        (
            '--prompt "a rocket on a blue background" --seed 1 --steps 4 --scale 1 '
            "--scheduler lcm --output plain.png",
            '--prompt "a rocket on a blue background" --seed 1 --steps 4 --scale 1 '
            f"--scheduler lcm --lora {LCM_LORA} --output lora.png",
        ),
        ("plain.png", "lora.png"),
    ),
    Entry(
        "tiny-decoder",
        "A tiny decoder",
        "The model's own decoder and the tiny one, which also draws the live previews.",
        (
            '--prompt "a butterfly" --seed 2 --output full.png',
            '--prompt "a butterfly" --seed 2 --vae tiny --output tiny.png',
        ),
        ("full.png", "tiny.png"),
    ),
    Entry(
        "enlarge",
        "Enlarged",
        "Painted small, scaled up, and painted over in tiles that are denoised together.",
        (
            '--prompt "a red apple, noto style, on a light blue background" --seed 1 '
            "--output small.png",
            "--params-from small.png --enlarge 4 --output large.png",
        ),
        ("small.png", "large.png"),
    ),
    Entry(
        "watermark",
        "Invisible watermark",
        "Without and with a text in the pixels, which CompVis's decoder reads.",
        (
            '--prompt "a sunflower" --seed 2 --enlarge 4 --output plain.png',
            '--prompt "a sunflower" --seed 2 --enlarge 4 --watermark --output marked.png',
        ),
        ("plain.png", "marked.png"),
    ),
    Entry(
        "again",
        "A picture again, or nearly",
        "What a picture's file says is painted once more, as it was and with another ground.",
        (
            '--prompt "a penguin on a purple background" --seed 9 --output first.png',
            "--params-from first.png --output again.png",
            '--params-from first.png --prompt "a penguin on a green background" --output other.png',
        ),
        ("first.png", "again.png", "other.png"),
    ),
)


def right_half() -> Image.Image:
    """The mask of the inpainting entry."""
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (32, 0, 64, 64))
    return mask


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
            right_half().save("mask.png")
            (Path(folder) / "models").symlink_to(bundled().parent)
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
