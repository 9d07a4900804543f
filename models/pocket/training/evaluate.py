"""Judge a pipeline: paint a fixed list of prompts, and count what is right in the pictures.

    python -m models.pocket.training.evaluate
    python -m models.pocket.training.evaluate --steps 8 --scheduler dpmpp_2m --json figures.json
    python -m models.pocket.training.evaluate --against-steps 4 --against-scheduler lcm
    python -m models.pocket.training.evaluate --further

It trains nothing. `judge.safetensors` names what is in each picture; real renders of the same
scenes say how far the painted ones lie from them, and held-out renders what the VAE loses. With
any `--against` option the prompts are painted a second time, from the same seeds, and the two ways
are compared picture by picture. "Seen" and "held out" are as `scenes` defines them for training.
"""

import argparse
import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, NoReturn, Protocol

import numpy as np

from pleinair.bench import results
from pleinair.bench.markdown import table
from pleinair.bench.progress import bars
from pleinair.bench.similarity import ssim
from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.engines.choice import ENGINES
from pleinair.runtime.errors import SettingError
from pleinair.runtime.exits import exit_code
from pleinair.runtime.images.similarity import psnr

from .captions import in_chinese, in_english
from .classifier import load_classifier
from .judge import Reader, Reading, Verdict, judge, shares
from .metrics import Pairs, frechet_distance
from .phrasings import phrasing
from .pictures import Icons, render
from .scenes import Scene, draw_held_out, draw_seen

POCKET = Path(__file__).parents[1]
# What is painted with, of a folder.
PARTS = ("text_encoder", "unet", "vae_decoder", "vae_encoder", "tokenizer", "scheduler")
PROMPTS = 600
# Twelve scenes a round, in turn seen and held out; singles weigh most.
ROUND = ("single", "pair", "single", "count", "single", "pair") * 2
TWINS = 1 / 3  # of the scenes are asked for in Chinese too
UNSAID = 0.2  # of the seen scenes leave the style open, or a white background
LANGUAGES = {"en": "English", "zh": "Chinese"}
VAE_PICTURES = 100


class Painter(Protocol):
    """What is judged: `StableDiffusionPipeline`, or anything that is called like it."""

    def __call__(self, prompt: str, *, seed: int, **settings: Any) -> Any: ...


@dataclass(frozen=True)
class Prompt:
    """A scene put into words. style_said: else any style is right, and none is judged.

    A background left unsaid is white in the scene, as in training.
    """

    text: str
    scene: Scene
    language: str
    style_said: bool


def further_prompts() -> Iterator[Prompt]:
    """Another fixed, endless list: scenes in the wordings of `phrasings`, drawn as `prompts`."""
    random = Random(1)
    while True:
        for place, kind in enumerate(ROUND):
            draw = draw_held_out if place >= len(ROUND) // 2 else draw_seen
            scene = draw(random, kind)
            style, background = random.random() >= 0.5, random.random() >= 0.5
            if not background:
                scene = replace(scene, background="white")
            found = phrasing(random, scene, style=style, background=background)
            yield Prompt(found.text, found.scene, found.language, style)


def prompts() -> Iterator[Prompt]:
    """The fixed, endless list: of a shorter one, a longer one is the continuation.

    No scene comes twice, but where a Chinese twin follows its English prompt. Held-out scenes are
    said in full: with a word left out, training may have seen what remains.
    """
    random, asked = Random(0), set()
    while True:
        for place, kind in enumerate(ROUND):
            draw = draw_held_out if place >= len(ROUND) // 2 else draw_seen
            while (scene := draw(random, kind)) in asked:
                pass
            asked.add(scene)
            style = scene.held_out or random.random() >= UNSAID
            background = scene.held_out or scene.background != "white" or random.random() >= UNSAID
            said = {"style": style, "background": background}
            yield Prompt(in_english(random, scene, **said), scene, "en", style)
            if random.random() < TWINS:
                yield Prompt(in_chinese(random, scene, **said), scene, "zh", style)


@dataclass(frozen=True)
class Evaluation:
    """Prompts with the verdicts on what was painted; `reading` is of the whole pictures."""

    prompts: Sequence[Prompt]
    verdicts: Sequence[Verdict]
    reading: Reading
    size: int

    def groups(self) -> dict[str, list[int]]:
        """Row of the table -> the prompts it counts: strata by language, then the sums."""
        rows: dict[str, list[int]] = {}
        for number, prompt in enumerate(self.prompts):
            part = "held-out" if prompt.scene.held_out else "seen"
            language = LANGUAGES[prompt.language]
            for row in (f"{part} {prompt.scene.kind}s, {language}", part, language, "all"):
                rows.setdefault(row, []).append(number)
        return dict(sorted(rows.items(), key=lambda row: ("," not in row[0], row[0])))

    def shares(self) -> dict[str, dict[str, Any]]:
        """Row -> column -> `Share`."""
        return {
            row: shares(self.verdicts[number] for number in numbers)
            for row, numbers in self.groups().items()
        }

    def table(self) -> str:
        rows = [
            [row, len(self.groups()[row]), *columns.values()]
            for row, columns in self.shares().items()
        ]
        return table(["prompts", "n", *shares([])], rows)

    def as_json(self) -> dict[str, Any]:
        right = {
            row: {name: share.as_json() for name, share in columns.items()}
            for row, columns in self.shares().items()
        }
        pictures = [
            {**asdict(prompt), "held_out": prompt.scene.held_out, **asdict(verdict)}
            for prompt, verdict in zip(self.prompts, self.verdicts, strict=True)
        ]
        return {"right": right, "pictures": pictures}


def evaluate(
    pipe: Painter, prompts: Sequence[Prompt], read: Reader, *, seed: int = 0, **settings: Any
) -> Evaluation:
    """Paint each prompt, number i from `seed + i`, and judge the pictures.

    settings: passed to every call of `pipe`, as `num_inference_steps=4`.
    Raises what `pipe` raises for settings that it refuses.
    """
    pictures = []
    with bars() as shown:
        for number, prompt in shown.track(list(enumerate(prompts)), description="painting"):
            image = pipe(prompt.text, seed=seed + number, **settings).images[0]
            pictures.append(np.asarray(image.convert("RGB")))
    verdicts, reading = judge([prompt.scene for prompt in prompts], pictures, read)
    verdicts = [
        verdict if prompt.style_said else replace(verdict, style=None)
        for prompt, verdict in zip(prompts, verdicts, strict=True)
    ]
    return Evaluation(prompts, verdicts, reading, len(pictures[0]))


def compare(first: Evaluation, second: Evaluation) -> dict[str, Pairs]:
    """Row -> both ways on the same prompts: top-1 of seen, held-out and all, then the rest of all.

    Raises SettingError where the prompts are not the same.
    """
    if list(first.prompts) != list(second.prompts):
        raise SettingError("two evaluations of different prompts cannot be compared")
    return {
        **{
            f"top1, {row}": _pairs(first, second, "top1", first.groups()[row])
            for row in ("seen", "held-out")
            if row in first.groups()
        },
        **{
            f"{column}, all": _pairs(first, second, column, first.groups()["all"])
            for column in shares([])
        },
    }


def _pairs(first: Evaluation, second: Evaluation, column: str, numbers: list[int]) -> Pairs:
    outcomes = ([getattr(side.verdicts[i], column) for i in numbers] for side in (first, second))
    return Pairs.of(*outcomes)


def compare_languages(evaluation: Evaluation) -> dict[str, Pairs]:
    """Column -> the same scenes asked for in English (first) and in Chinese (second)."""
    asked = evaluation.prompts
    twins = [
        i
        for i in range(1, len(asked))
        if asked[i].scene == asked[i - 1].scene and asked[i].language == "zh"
    ]
    verdicts = evaluation.verdicts
    return {
        column: Pairs.of(
            [getattr(verdicts[i - 1], column) for i in twins],
            [getattr(verdicts[i], column) for i in twins],
        )
        for column in ("top1", "style", "background")
    }


def comparison_table(pairs: Mapping[str, Pairs], first: str, second: str) -> str:
    """In per cent and points; p is McNemar's."""
    rows = []
    for row, pair in pairs.items():
        low, high = (f"{100 * end:+.1f}" for end in pair.interval)
        difference = f"{100 * pair.difference:+.1f} ({low} to {high})"
        shown = (
            f"{100 * (pair.both + own) / max(1, pair.number):.1f}"
            for own in (pair.first, pair.second)
        )
        rows.append([row, pair.number, *shown, difference, f"{pair.p_value:.3f}"])
    return table(["", "n", first, second, "difference", "p"], rows)


def distribution(evaluation: Evaluation, icons: Icons, read: Reader) -> dict[str, float]:
    """Fréchet distances in the classifier's features between sets of n pictures of the scenes.

    "painted": painted pictures to real renders. "floor": two sets of real renders, which differ
    in size and place alone; nothing can be expected to come nearer.
    """
    real = [real_features(evaluation, icons, read, stream) for stream in (1, 2)]
    return {
        "n": len(evaluation.prompts),
        "painted": frechet_distance(evaluation.reading.features, real[0]),
        "floor": frechet_distance(real[1], real[0]),
    }


def real_features(evaluation: Evaluation, icons: Icons, read: Reader, stream: int) -> np.ndarray:
    """What the classifier's heads read from renders of the same scenes; stream: of their places."""
    random = np.random.default_rng(stream)
    pictures = [
        render(prompt.scene, icons, random, evaluation.size) for prompt in evaluation.prompts
    ]
    return read(pictures).features


def held_out_renders(icons: Icons, size: int, number: int) -> list[np.ndarray]:
    """Scenes that training never sees, drawn; kinds in turn."""
    words, numbers = Random(0), np.random.default_rng(0)
    kinds = islice((kind for _ in range(number) for kind in ROUND), number)
    return [render(draw_held_out(words, kind), icons, numbers, size) for kind in kinds]


def decoder_error(
    pipe: StableDiffusionPipeline, pictures: Sequence[np.ndarray]
) -> dict[str, float]:
    """Mean PSNR (dB) and SSIM of pictures against themselves encoded and decoded by the folder.

    pictures: uint8 (size, size, 3), all of one size. Raises BundleError where there is no encoder.
    """
    size = len(pictures[0])
    space = pipe.family.space
    encoder = pipe.parts.graph("vae_encoder", {"sample": (1, 3, size, size)})
    decoder = pipe.parts.graph("vae_decoder", {"latent_sample": space.shape(size, size)})
    errors = []
    for picture in pictures:
        sample = (picture.astype(np.float32) / 127.5 - 1.0).transpose(2, 0, 1)[None]
        # The posterior's mean, its first half, taken straight to the decoder: the scaling factor
        # would multiply it only to be divided out again.
        (moments,) = encoder({"sample": sample}).values()
        (decoded,) = decoder({"latent_sample": moments[:, : space.channels]}).values()
        pixels = np.clip(decoded[0].transpose(1, 2, 0) / 2 + 0.5, 0, 1)
        again = (pixels * 255).round().astype(np.uint8)
        errors.append((psnr(again, picture), ssim(again, picture)))
    means = np.mean(errors, axis=0)
    return {"n": len(pictures), "psnr": float(means[0]), "ssim": float(means[1])}


@dataclass(frozen=True)
class Way:
    """A pipeline and the settings of its calls, None being its own."""

    folder: str
    opened: dict[str, Any]
    called: dict[str, Any]

    @classmethod
    def of(cls, options: argparse.Namespace) -> "Way":
        opened = {"engine": options.engine, "profile": options.profile, "threads": options.threads}
        called = {
            "num_inference_steps": options.steps,
            "guidance_scale": options.guidance_scale,
            "scheduler": options.scheduler,
        }
        return cls(options.folder, opened, called)

    @classmethod
    def against(cls, options: argparse.Namespace) -> "Way | None":
        """The second way: as the first, but for what `--against` options say; None without any."""
        given = {
            name.removeprefix("against_"): value
            for name, value in vars(options).items()
            if name.startswith("against_") and value is not None
        }
        return cls.of(argparse.Namespace(**{**vars(options), **given})) if given else None

    def open(self) -> StableDiffusionPipeline:
        return StableDiffusionPipeline.from_pretrained(self.folder, **self.opened)

    def as_json(self, pipe: StableDiffusionPipeline) -> dict[str, Any]:
        """What was painted with: the defaults by their values."""
        usual = pipe.family.recommended
        own = {
            "num_inference_steps": usual.steps,
            "guidance_scale": usual.guidance_scale,
            "scheduler": usual.scheduler or pipe.bundle.scheduler["_class_name"],
        }
        given = {name: value for name, value in self.called.items() if value is not None}
        return {
            "folder": str(pipe.bundle.path),
            "sha256": folder_digest(pipe.bundle.path),
            **self.opened,
            "engine": pipe.engine.name,
            "device": pipe.engine.device,
            "settings": {**own, **given},
        }


def folder_digest(folder: Path) -> str:
    """One sha256 over the names and contents of a model folder's parts."""
    digest = hashlib.sha256()
    for part in PARTS:
        for file in sorted((folder / part).rglob("*")):
            if file.is_file():
                digest.update(file.relative_to(folder).as_posix().encode() + b"\0")
                digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other mistake is said."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see --help\n")


def parser() -> argparse.ArgumentParser:
    made = _Parser(
        prog="python -m models.pocket.training.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "folder", nargs="?", default=str(POCKET), help="a converted model (default: models/pocket)"
    )
    made.add_argument("--prompts", type=int, default=PROMPTS, metavar="N", help="default: 600")
    made.add_argument(
        "--further", action="store_true", help="ask in wordings that training's captions lack"
    )
    made.add_argument(
        "--seed", type=int, default=0, metavar="S", help="prompt i is painted from S + i"
    )
    _add_way(made.add_argument_group("how to paint (default: as the model's card has it)"), "--")
    second = made.add_argument_group("a second way to compare with (default: as the first)")
    second.add_argument("--against", dest="against_folder", metavar="FOLDER")
    _add_way(second, "--against-")
    results.add_arguments(made)
    return made


def _add_way(group: argparse._ArgumentGroup, prefix: str) -> None:
    first = prefix == "--"
    group.add_argument(f"{prefix}steps", type=int, metavar="N", help="denoising steps")
    group.add_argument(f"{prefix}guidance-scale", type=float, metavar="G", help="1 is none")
    group.add_argument(f"{prefix}scheduler", metavar="NAME")
    group.add_argument(f"{prefix}engine", choices=ENGINES, default="auto" if first else None)
    group.add_argument(f"{prefix}profile", metavar="P", default="exact" if first else None)
    group.add_argument(f"{prefix}threads", type=int, metavar="N", help="CPU threads")


def run(options: argparse.Namespace) -> None:
    """Paint, judge, compare; print the tables and write the files asked for."""
    results.check(options)
    if options.prompts < len(ROUND):
        raise SettingError(f"--prompts is {options.prompts}; give {len(ROUND)} or more")
    ways = [way for way in (Way.of(options), Way.against(options)) if way]
    pipes = [way.open() for way in ways]
    asked = list(islice((further_prompts if options.further else prompts)(), options.prompts))
    for way, pipe in zip(ways[1:], pipes[1:], strict=True):
        pipe(asked[0].text, seed=0, **way.called)  # refuses now, not after minutes of the first
    read, icons = load_classifier().read, open_icons()
    evaluations, measured, shown = [], [], []
    for way, pipe in zip(ways, pipes, strict=True):
        evaluation = evaluate(pipe, asked, read, seed=options.seed, **way.called)
        figures = {
            "way": way.as_json(pipe),
            **evaluation.as_json(),
            "languages": _as_json(compare_languages(evaluation)),
            "frechet": distribution(evaluation, icons, read),
            "vae": _vae(pipe, icons, evaluation.size),
        }
        evaluations.append(evaluation)
        measured.append(figures)
        shown.append(report(evaluation, figures))
    facts: dict[str, Any] = {"seed": options.seed, "ways": measured}
    if len(evaluations) == 2:
        pairs = compare(*evaluations)
        facts["compared"] = _as_json(pairs)
        shown.append("The second way less the first, on the same prompts and seeds:")
        shown.append(comparison_table(pairs, "first", "second"))
    results.publish(options, facts, "\n\n".join(shown))


def report(evaluation: Evaluation, figures: Mapping[str, Any]) -> str:
    """The tables and figures of one way of painting."""
    way, frechet, vae = figures["way"], figures["frechet"], figures["vae"]
    settings = ", ".join(f"{name} {value}" for name, value in way["settings"].items())
    lost = (
        "–" if vae is None else f"PSNR {vae['psnr']:.2f} dB, SSIM {vae['ssim']:.4f}, n {vae['n']}"
    )
    return "\n\n".join(
        (
            f"{way['folder']} ({way['engine']}, {way['profile']}): {settings}",
            "Right in per cent (95 % Wilson interval). Of pairs and counts, every thing has to be "
            "right in its place. ground: the background by the pixels of the border.",
            evaluation.table(),
            "The same scenes asked for in English and in Chinese:",
            comparison_table(compare_languages(evaluation), "English", "Chinese"),
            f"Fréchet distance to real renders of the same scenes: {frechet['painted']:.3f}; "
            f"between two sets of real renders: {frechet['floor']:.3f} (n {frechet['n']} each)",
            f"Held-out renders, encoded and decoded: {lost}",
        )
    )


def _vae(pipe: StableDiffusionPipeline, icons: Icons, size: int) -> dict[str, float] | None:
    if "vae_encoder" not in pipe.bundle.graphs[pipe.engine.format]:
        return None
    return decoder_error(pipe, held_out_renders(icons, size, VAE_PICTURES))


def _as_json(pairs: Mapping[str, Pairs]) -> dict[str, Any]:
    return {row: pair.as_json() for row, pair in pairs.items()}


def open_icons() -> Icons:
    """The drawn icons; SettingError where they are not here."""
    try:
        return Icons()
    except FileNotFoundError as error:
        raise SettingError(
            f"{error.filename} is missing; run: python -m models.pocket.training.data"
        ) from None


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 2 for a mistake that the user can mend, 130 when interrupted."""
    options = parser().parse_args(argv)
    return exit_code(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
