"""What a faster way to paint changes: the same prompts and seeds, picture by picture."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.engines.choice import ENGINES
from pleinair.runtime.errors import PleinairError, SettingError
from pleinair.runtime.images.sheets import sheet
from pleinair.runtime.images.similarity import psnr
from pleinair.runtime.model import catalog
from pleinair.runtime.speed.profiles import PROFILES

from . import machine, results
from .clip_score import ClipScore
from .markdown import table
from .progress import bars
from .recognition import Recognition
from .similarity import ssim
from .way import Way

PROMPTS = (
    "a photograph of an astronaut riding a horse",
    "an oil painting of a lighthouse in a storm",
    "a red bicycle leaning against a brick wall",
    "a bowl of fruit on a wooden table, soft morning light",
    "a portrait of an old fisherman, black and white photograph",
    "a snowy mountain village at night, lights in the windows",
    "a close-up of a bee on a sunflower",
    "a cat sleeping on a pile of books, watercolor",
    "a busy street market in the rain, umbrellas",
    "an isometric drawing of a small kitchen",
    "a steam train crossing a stone bridge in autumn",
    "a glass of water beside a newspaper, studio photograph",
)
_NUMBER = 24
_ROWS = 6  # of the sheet
_SEEN = 256  # pixels that a picture on the sheet has at least


def add_to(commands: Any) -> None:
    about = "compare profiles or settings with the first of them: PSNR, SSIM, CLIP score, a sheet"
    parser = commands.add_parser("quality", help=about, description=about)
    parser.add_argument("model", help="a converted model: a folder or a known name")
    parser.add_argument(
        "--ways",
        nargs="+",
        default=list(PROFILES),
        metavar="WAY",
        help="the first is what the others are held against; each a profile, settings, or both, as "
        f"fast,cache_interval=2 or model=FOLDER (default: {' '.join(PROFILES)})",
    )
    parser.add_argument(
        "--prompts", type=Path, metavar="FILE", help=f"one a line (default: {len(PROMPTS)} of ours)"
    )
    parser.add_argument(
        "--number", type=int, default=_NUMBER, help=f"pictures a way (default: {_NUMBER})"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the first picture (default: 0)")
    parser.add_argument("--size", type=int, help="both sides (default: the model's own)")
    parser.add_argument("--steps", type=int, help="default: the model's own")
    parser.add_argument("--guidance", type=float, help="default: the model's own")
    parser.add_argument("--scheduler", help="default: the model's own")
    parser.add_argument("--engine", choices=ENGINES, default="auto", help="default: auto")
    parser.add_argument("--threads", type=int, help="default: the engine's own choice")
    parser.add_argument("--clip", type=Path, metavar="FOLDER", help="a CLIP model, for its score")
    parser.add_argument(
        "--recognition",
        action="store_true",
        help="for models/pocket: its own prompts, and its own judge's verdict",
    )
    results.add_arguments(parser, picture="sheet")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    results.check(options, "number")
    ways = [Way.read(text) for text in dict.fromkeys(options.ways)]
    called = _called(options)
    score = ClipScore.open(options.clip) if options.clip else None
    recognition = Recognition.open(options.number) if options.recognition else None
    gallery = Gallery(_prompts(options, recognition), options.seed)
    opened = {"engine": options.engine, "threads": options.threads}
    code = 0
    try:
        gallery.paint(str(catalog.find(options.model)), ways, opened, called)
    except KeyboardInterrupt:
        code = 130
    if not gallery.pictures:
        return code
    figures = gallery.figures(score)
    facts = {"machine": machine.facts(), "model": options.model, "settings": called}
    facts |= {"prompts": gallery.prompts, "seed": options.seed, "skipped": gallery.skipped}
    facts["ways"] = {name: _as_json(columns) for name, columns in figures.items()}
    parts = [machine.sentence(facts["machine"]), _about(options, gallery), _table(figures)]
    if recognition and not code:
        facts["recognition"], words = recognition.report(gallery.pictures)
        parts.append(words)
    parts += [f"{name}: skipped: {reason}" for name, reason in gallery.skipped.items()]
    results.publish(options, facts, "\n\n".join(parts), lambda: gallery.sheet(figures))
    return code


def _called(options: argparse.Namespace) -> dict[str, Any]:
    """The settings of all calls, checked as the runtime checks them."""
    pipe = StableDiffusionPipeline.from_pretrained(options.model)
    called = {
        "width": options.size,
        "height": options.size,
        "num_inference_steps": options.steps,
        "guidance_scale": options.guidance,
        "scheduler": options.scheduler,
    }
    pipe.plan("", **pipe.family.example_pictures(pipe.family.size), **called)
    return called


def _prompts(options: argparse.Namespace, recognition: Recognition | None) -> list[str]:
    """One for each picture; a list that is too short begins again, with other seeds."""
    if recognition is not None:
        if options.prompts is not None:
            raise SettingError("--recognition has prompts of its own; leave out --prompts")
        return [prompt.text for prompt in recognition.prompts]
    texts: Sequence[str] = PROMPTS
    if options.prompts is not None:
        try:
            lines = options.prompts.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingError(f"{options.prompts}: cannot be read: {error}") from error
        texts = [line.strip() for line in lines if line.strip()]
        if not texts:
            raise SettingError(f"{options.prompts}: holds no prompt")
    return [texts[i % len(texts)] for i in range(options.number)]


@dataclass
class Gallery:
    """The same prompts and seeds in several ways; picture i is of prompt i, from `seed + i`.

    pictures: way -> uint8 (height, width, 3) each; skipped: way -> why it could not paint.
    """

    prompts: Sequence[str]
    seed: int
    pictures: dict[str, list[np.ndarray]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def paint(
        self, model: str, ways: Sequence[Way], opened: dict[str, Any], called: dict[str, Any]
    ) -> None:
        """A way that fails is skipped. The reference, the first one, may not: its error is raised.

        Interrupted, it keeps the ways that are whole.
        """
        with bars() as progress:
            task = progress.add_task("", total=len(ways) * len(self.prompts))
            for way in ways:
                progress.update(task, description=way.name)
                try:
                    pipe = way.open(model, **opened)
                    settings = {**called, **way.called, "safety": "off"}
                    found = []
                    for i, prompt in enumerate(self.prompts):
                        image = pipe(prompt, seed=self.seed + i, **settings).images[0]
                        found.append(np.asarray(image.convert("RGB")))
                        progress.advance(task)
                    self._check_size(found[0])
                except PleinairError as error:
                    if not self.pictures:
                        raise
                    self.skipped[way.name] = str(error)
                    progress.console.print(f"{way.name}: skipped: {error}")
                    continue
                self.pictures[way.name] = found

    def _check_size(self, picture: np.ndarray) -> None:
        for reference in list(self.pictures.values())[:1]:
            if picture.shape != reference[0].shape:
                sizes = ("x".join(map(str, one.shape[1::-1])) for one in (picture, reference[0]))
                raise SettingError(
                    "it paints {} where the first way paints {}; give --size".format(*sizes)
                )

    def figures(self, score: ClipScore | None) -> dict[str, dict[str, list[float]]]:
        """Way -> column -> a number a picture; the reference has no distance to itself."""
        reference, *_ = self.pictures
        figures: dict[str, dict[str, list[float]]] = {}
        for name, pictures in self.pictures.items():
            columns = figures[name] = {}
            if name != reference:
                pairs = list(zip(pictures, self.pictures[reference], strict=True))
                columns["PSNR dB"] = [psnr(*pair) for pair in pairs]
                columns["SSIM"] = [ssim(*pair) for pair in pairs]
            if score is not None:
                columns["CLIP score"] = score(self.prompts, list(map(Image.fromarray, pictures)))
        return figures

    def sheet(self, figures: dict[str, dict[str, list[float]]]) -> Image.Image:
        """The first prompts side by side, a way a column, with its median PSNR."""
        heads = []
        for name, columns in figures.items():
            found = columns.get("PSNR dB")
            heads.append(f"{name}: {_shown(_quartiles(found)[1])} dB" if found else name)
        rows = [
            [_enlarged(pictures[i]) for pictures in self.pictures.values()]
            for i in range(min(_ROWS, len(self.prompts)))
        ]
        return sheet(rows, heads, self.prompts[: len(rows)])


def _enlarged(picture: np.ndarray) -> Image.Image:
    image = Image.fromarray(picture)
    times = max(1, math.ceil(_SEEN / image.width))
    return image.resize((times * image.width, times * image.height), Image.Resampling.NEAREST)


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Each one of the values: where some are infinite, nothing lies between two of them."""
    low, middle, high = np.percentile(values, (25, 50, 75), method="nearest")
    return float(low), float(middle), float(high)


def _about(options: argparse.Namespace, gallery: Gallery) -> str:
    reference, *_ = gallery.pictures
    return (
        f"{options.model}: {len(gallery.prompts)} pictures a way, from seed {options.seed} on, "
        f"held against {reference}: median (first to third quartile)."
    )


def _table(figures: dict[str, dict[str, list[float]]]) -> str:
    columns = list(dict.fromkeys(column for own in figures.values() for column in own))
    rows = []
    for name, own in figures.items():
        spreads = [_quartiles(own[column]) if column in own else None for column in columns]
        rows.append([name, *(spread and _words(spread) for spread in spreads)])
    return table(["way", *columns], rows)


def _words(quartiles: tuple[float, float, float]) -> str:
    low, middle, high = map(_shown, quartiles)
    return f"{middle} ({low} to {high})"


def _shown(value: float) -> str:
    return "identical" if math.isinf(value) else f"{value:.4g}"


def _as_json(columns: dict[str, list[float]]) -> dict[str, Any]:
    """JSON has no infinity: identical pictures have null."""

    def finite(values: Sequence[float]) -> list[float | None]:
        return [value if math.isfinite(value) else None for value in values]

    return {
        column: {
            **dict(
                zip(("quartile1", "median", "quartile3"), finite(_quartiles(values)), strict=True)
            ),
            "values": finite(values),
        }
        for column, values in columns.items()
    }
