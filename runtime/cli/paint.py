"""The painting command: arguments in, pictures out."""

import argparse
import contextlib
import dataclasses
import functools
import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from PIL import Image

from .. import catalog
from ..adapters import inversion, lora
from ..bundle import Bundle
from ..controlnet import opened, weighed
from ..engines.choice import choose
from ..engines.protocol import Engine
from ..enlarging import enlarged
from ..errors import PleinairError, SettingError
from ..images import watermark
from ..images.condition import split
from ..images.grid import grid
from ..images.saving import check_target, next_numbered, save, save_numbered
from ..pipeline import StableDiffusionPipeline
from ..schedulers.catalog import NAMED, SOLVERS
from ..settings import consecutive, seeds_of
from ..text import styles
from ..text.wildcards import drawn
from . import enlarging
from .arguments import BETAS, CALL, DEFAULT_PROMPT, given, picture_input
from .compare import Comparison
from .journal import Journal
from .progress import StageBars
from .prompts import read_prompts
from .repeat import bundle_digest, restore, tell_of_another_model

BAD_LINES = 2
_GRID = "grid"

Painted = tuple[Image.Image, dict[str, Any]]


@dataclass(frozen=True)
class Picture:
    """A picture to paint: the call's arguments, and the seed of its start noise where another."""

    settings: Mapping[str, Any]
    noise_seed: int | None = None


def paint(options: argparse.Namespace) -> int:
    """Paint all that the options ask for; 2 where lines of the prompt file were left out."""
    said = restore(options) if options.params_from else {}
    comparison = Comparison.parsed(options.compare) if options.compare else None
    _check_options(options, comparison)
    lines, bad = [options], []
    if options.from_file:
        file = read_prompts(options.from_file, options)
        lines, bad = [line.options for line in file.lines], file.bad
    counts = [_pictures_each(line) for line in lines]
    bundle = _bundle(options)
    tell_of_another_model(said, bundle)
    if comparison:
        _paint_comparison(options, bundle, comparison)
        return 0
    seed = consecutive(options.seed, max(counts))[0]
    with _journal(options, bundle, lines, seed) as journal:
        # A job that goes on has the seed that it began with.
        pictures = _pictures(options, lines, journal.seed if journal else seed)
        _paint_job(options, bundle, pictures, journal)
    for number, what in bad:
        print(f"{options.from_file}: line {number} left out: {what}", file=sys.stderr)
    return BAD_LINES if bad else 0


def _pictures(
    options: argparse.Namespace, lines: Sequence[argparse.Namespace], seed: int
) -> list[Picture]:
    """Every line's prompt from each of its seeds: its own, or those that all lines share."""
    pictures = []
    for line in lines:
        settings = {"prompt": DEFAULT_PROMPT, "seed": seed, **given(line, CALL)}
        strength = settings.get("variation_strength", 0.0)
        other = settings.get("variation_seed")
        seeds = seeds_of(settings["seed"], other, strength, _pictures_each(line))
        noise_seed = seeds[0][0] if options.fixed_code else options.noise_seed
        for own, variation in seeds:
            numbers = {"seed": own, **({"variation_seed": variation.seed} if variation else {})}
            pictures.append(Picture(_worded({**settings, **numbers}, line), noise_seed))
    return pictures


def _worded(settings: dict[str, Any], line: argparse.Namespace) -> dict[str, Any]:
    """The prompts in their styles, and what is to be drawn in them drawn by the picture's seed."""
    prompt, negative = styles.apply(
        line.style or (), settings["prompt"], settings.get("negative_prompt", "")
    )
    if line.wildcards:
        prompt, negative = drawn([prompt, negative], line.wildcards, settings["seed"])
    return {**settings, "prompt": prompt, **({"negative_prompt": negative} if negative else {})}


def _paint_job(
    options: argparse.Namespace, bundle: Bundle, pictures: list[Picture], journal: Journal | None
) -> None:
    """Paint what is not there yet, each picture saved as soon as it is done; then the sheet."""
    files = _files(journal, len(pictures))
    waiting = [i for i in range(len(pictures)) if i not in files]
    _check(options, bundle, pictures, journal.owner if journal else "")
    images: dict[int, Image.Image] = {}
    try:
        if waiting:
            painting = _paint_all(_open(options, bundle), options, [pictures[i] for i in waiting])
            for i, (image, record) in zip(waiting, painting, strict=True):
                images[i] = image
                if not options.skip_save:
                    files[i] = _save(image, record, options, journal, i)
        if len(pictures) > 1 and not (options.skip_grid or options.output):
            files[len(pictures)] = _save_grid(options, files, images, journal, len(pictures))
    finally:
        # After Ctrl-C too: the pictures that are finished are whole, and named.
        for _, path in sorted(files.items()):
            print(path)


def _paint_comparison(options: argparse.Namespace, bundle: Bundle, comparison: Comparison) -> None:
    """One picture a cell, all from one seed; the sheets are saved beside them."""
    base = given(options, CALL)
    base.setdefault("prompt", DEFAULT_PROMPT)
    base["seed"] = consecutive(options.seed, 1)[0]
    cells = [_worded({**base, **cell}, options) for cell in comparison.cells()]
    pictures = [
        Picture(cell, cell["seed"] if options.fixed_code else options.noise_seed) for cell in cells
    ]
    _check(options, bundle, pictures)
    pipe = _open(options, bundle)
    for picture in pictures:
        _rehearse(pipe, options, picture)
    images, records = [], []
    try:
        for image, record in _paint_all(pipe, options, pictures):
            images.append(image)
            records.append(record)
            if not options.skip_save:
                print(_save(image, record, options))
    finally:
        for board in comparison.sheets(images) if len(images) == len(pictures) else ():
            common = {name: value for name, value in records[0].items() if _same(name, records)}
            print(save_numbered(board, options.outdir, common, prefix="compare-", digits=4))


def _same(name: str, records: Sequence[Mapping[str, Any]]) -> bool:
    return all(record.get(name) == records[0].get(name) for record in records)


def _rehearse(pipe: StableDiffusionPipeline, options: argparse.Namespace, picture: Picture) -> None:
    """Make a call up to where its prompt has been read, so that what is wrong is said early."""

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "denoise" or (stage == "encode" and done == total):
            raise enlarging.Checked

    with contextlib.suppress(enlarging.Checked):
        enlarging.painted(pipe, picture.settings, picture_input(options), None, stop)


def _paint_all(
    pipe: StableDiffusionPipeline, options: argparse.Namespace, pictures: Sequence[Picture]
) -> Iterator[Painted]:
    """One call a picture, so that each can be saved as soon as it is done."""
    with StageBars(len(pictures)) as bars:
        for picture in pictures:
            settings = picture.settings
            latents = None
            if picture.noise_seed is not None:
                size = settings.get("width"), settings.get("height")
                latents = pipe.start_noise(picture.noise_seed, *size)
            start = picture_input(options)
            image = enlarging.painted(pipe, settings, start, latents, bars)
            if options.watermark is not None:
                image = watermark.embed(image, options.watermark)
            bars.picture_done()
            yield image, _record(pipe, options, picture, image)


def _record(
    pipe: StableDiffusionPipeline,
    options: argparse.Namespace,
    picture: Picture,
    image: Image.Image,
) -> dict[str, Any]:
    """What a picture's file says of how it was made: the defaults by their values."""
    defaults, bundle = pipe.defaults, pipe.bundle
    scale = picture.settings.get("enlarge", 1)
    size = {"width": round(image.width / scale), "height": round(image.height / scale)}
    # What is kept of a picture brings its own size back, which may be none to paint at.
    if options.keep_unmasked or enlarging.is_enough(picture.settings, picture_input(options)):
        size = {}
    filled = {
        **size,
        **(enlarging.DEFAULTS if "enlarge" in picture.settings else {}),
        "num_inference_steps": defaults.steps,
        "guidance_scale": defaults.guidance_scale,
        "scheduler": defaults.scheduler or _named(bundle.scheduler),
    }
    around = {
        "noise_seed": picture.noise_seed,
        **given(options, BETAS),
        "watermark": options.watermark,
        "precision": options.precision,
        "engine": pipe.engine.name,
        "device": pipe.engine.device,
        "model": bundle.name,
        "model_digest": bundle_digest(bundle) or None,
        "solver": bundle.scheduler.get("_class_name"),
        "version": f"Pleinair {_version()}",
    }
    record = {**filled, **picture.settings, **around}
    return {name: value for name, value in record.items() if value is not None}


def _named(config: Mapping[str, Any]) -> str | None:
    """The short name of a model's own scheduler, where one stands for just its options."""
    for name, (solver, options) in NAMED.items():
        own = SOLVERS.get(str(config.get("_class_name"))) is solver
        if own and all(config.get(key, False) == value for key, value in options.items()):
            return name
    return None


def _version() -> str:
    try:
        return version("pleinair")
    except PackageNotFoundError:  # run from a checkout that is on the path but not installed
        return "(not installed)"


def _bundle(options: argparse.Namespace) -> Bundle:
    folder = catalog.find(options.model) if options.model else catalog.preferred()
    bundle = Bundle.open(folder, options.tokenizer)
    _check_latents(options, bundle)
    return dataclasses.replace(bundle, scheduler={**bundle.scheduler, **given(options, BETAS)})


def _check_latents(options: argparse.Namespace, bundle: Bundle) -> None:
    own = {"C": bundle.latent_channels, "f": bundle.vae_scale_factor}
    for flag, value in own.items():
        if getattr(options, flag) not in (None, value):
            raise SettingError(
                f"--{flag} is {getattr(options, flag)}; {bundle.name} has {value}: leave it out"
            )


def _open(options: argparse.Namespace, bundle: Bundle) -> StableDiffusionPipeline:
    engine = _engine(options, bundle)
    print(f"model: {bundle.path}; {engine.name} on {engine.device}", file=sys.stderr)
    if bundle.path == catalog.bundled() and not options.model:
        print(
            "this is the small bundled model; for Stable Diffusion: "
            "pleinair pull stable-diffusion-v1-5-fp16-ov",
            file=sys.stderr,
        )
    return StableDiffusionPipeline(
        bundle,
        engine,
        [lora.opened(named) for named in options.lora],
        [inversion.opened(named) for named in options.embedding],
        opened(options.controlnet),
    )


def _engine(options: argparse.Namespace, bundle: Bundle) -> Engine:
    precision = None if options.precision == "autocast" else "f32"
    settings = (options.threads, options.cache_dir, precision)
    try:
        return choose(bundle, options.engine or "auto", options.device or "auto", *settings)
    except PleinairError as error:
        if not options.machine_restored:
            raise
        print(f"painting on what is here instead: {error}", file=sys.stderr)
        return choose(bundle, "auto", "auto", *settings)


def _journal(
    options: argparse.Namespace, bundle: Bundle, lines: Sequence[argparse.Namespace], seed: int
) -> contextlib.AbstractContextManager[Journal | None]:
    """The journal of a prompt file's job; none for what is one picture, or is not saved."""
    if not options.from_file or options.output or options.skip_save:
        return contextlib.nullcontext()
    # By the content of files and the name of the model, wherever they stand.
    elsewhere = {"from_file", "outdir", "params_from", "threads", "cache_dir", "model", "tokenizer"}
    inputs = {
        "model": [bundle.name, bundle_digest(bundle)],
        "lines": [
            {name: value for name, value in vars(line).items() if name not in elsewhere}
            for line in lines
        ],
        "files": [_digest(path) for line in lines for path in _files_read(line)],
    }
    return Journal(options.outdir, inputs, seed)


def _files_read(line: argparse.Namespace) -> list[Path]:
    """The files whose content changes a line's pictures; what is no file is refused later."""
    followed = [split(source)[0] for source in line.control_image or ()]
    nets = [weighed(named)[0] / "pleinair.json" for named in line.controlnet]
    named = [line.image, line.mask_image, *line.lora, *line.embedding, *followed, *nets]
    paths = [Path(str(name)) for name in named if name]
    # file:0.8 and file:word are weights and words of a file
    stems = [Path(str(path).rpartition(":")[0]) for path in paths if not path.is_file()]
    return [path for path in (*paths, *stems) if path.is_file()]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _files(journal: Journal | None, pictures: int) -> dict[int, Path]:
    """What a job has painted already, by the picture's number."""
    if journal is None:
        return {}
    files = {i: path for i in range(pictures) if (path := journal.done(str(i)))}
    if len(files) == pictures:
        print(
            f"painted before: {journal.path} says so; for other pictures give another --seed "
            "or --outdir, for the same ones again delete it",
            file=sys.stderr,
        )
    elif files:
        print(f"going on after {len(files)} of {pictures} pictures", file=sys.stderr)
    return files


def _pictures_each(line: argparse.Namespace) -> int:
    """How many pictures a prompt gets."""
    for name in ("n_samples", "n_iter"):
        if getattr(line, name) < 1:
            raise SettingError(f"--{name} is {getattr(line, name)}; give 1 or more")
    return int(line.n_samples * line.n_iter)


def _check_options(options: argparse.Namespace, comparison: Comparison | None) -> None:
    if options.n_rows < 0:
        raise SettingError(f"--n_rows is {options.n_rows}; give 0 or more")
    many = _pictures_each(options) > 1 or options.from_file or options.output
    if comparison and many:
        raise SettingError(
            "--compare paints one picture a cell; leave out --n_samples, --n_iter, --from-file "
            "and --output, or compare seed=1,2 and prompt=a cat|a dog"
        )


def _check(
    options: argparse.Namespace, bundle: Bundle, pictures: Sequence[Picture], owner: str = ""
) -> None:
    """Refuse now what could not be saved after minutes of painting."""
    if options.watermark is not None:
        size = catalog.defaults(bundle).size
        for picture in pictures:
            first = enlarging.first_size(picture.settings, picture_input(options), size)
            width, height = enlarged(first, picture.settings.get("enlarge", 1))
            watermark.check(width, height, options.watermark)
    if options.skip_save and options.skip_grid and not options.compare:
        return
    if options.output and len(pictures) > 1:
        raise SettingError(
            f"--output names one picture, {len(pictures)} are asked for; use --outdir"
        )
    check_target(options.output or next_numbered(options.outdir / "samples"), owner)


def _save(
    image: Image.Image,
    record: dict[str, Any],
    options: argparse.Namespace,
    journal: Journal | None = None,
    number: int = 0,
) -> Path:
    if options.output:
        return save(image, options.output, record)
    folder = options.outdir / "samples"
    if journal is None:
        return save_numbered(image, folder, record)
    announce = functools.partial(journal.tell, str(number))
    return save_numbered(image, folder, record, owner=journal.owner, announce=announce)


def _save_grid(
    options: argparse.Namespace,
    files: Mapping[int, Path],
    images: Mapping[int, Image.Image],
    journal: Journal | None,
    count: int,
) -> Path:
    if journal and (path := journal.done(_GRID)):
        return path
    pictures = [images[i] if i in images else Image.open(files[i]) for i in range(count)]
    sheet = grid(pictures, options.n_rows or _pictures_each(options))
    if journal is None:
        return save_numbered(sheet, options.outdir, prefix="grid-", digits=4)
    announce = functools.partial(journal.tell, _GRID)
    return save_numbered(
        sheet, options.outdir, prefix="grid-", digits=4, owner=journal.owner, announce=announce
    )
