"""The painting command: arguments in, pictures out."""

import argparse
import dataclasses
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from PIL import Image

from .. import catalog
from ..bundle import Bundle
from ..engines.choice import choose
from ..errors import SettingError
from ..images.grid import grid
from ..images.saving import check_target, next_numbered, save, save_numbered
from ..pipeline import StableDiffusionPipeline
from ..settings import consecutive
from .progress import StageBars
from .prompts import read_prompts

BAD_LINES = 2


def paint(options: argparse.Namespace) -> int:
    """Paint all that the options ask for; 2 where lines of the prompt file were left out."""
    prompts: list[str] = [options.prompt]
    bad: list[tuple[int, str]] = []
    if options.from_file:
        file = read_prompts(options.from_file)
        prompts, bad = file.prompts, file.bad
    pictures = _pictures_each(options)
    _check_targets(options, len(prompts) * pictures)
    pipe = _open(options)
    seeds = consecutive(options.seed, pictures)
    jobs = [(prompt, seed) for prompt in prompts for seed in seeds]
    painted: list[Image.Image] = []
    paths: list[Path] = []
    try:
        for image, settings in _paint_all(pipe, options, jobs):
            painted.append(image)
            if not options.skip_save:
                paths.append(_save(image, settings, options))
        if len(painted) > 1 and not (options.skip_grid or options.output):
            sheet = grid(painted, options.n_rows or len(seeds))
            paths.append(save_numbered(sheet, options.outdir, prefix="grid-", digits=4))
    finally:
        # After Ctrl-C too: the pictures that are finished are whole, and named.
        for path in paths:
            print(path)
    for number, what in bad:
        print(f"{options.from_file}: line {number} left out: {what}", file=sys.stderr)
    return BAD_LINES if bad else 0


def _open(options: argparse.Namespace) -> StableDiffusionPipeline:
    folder = catalog.find(options.model) if options.model else catalog.preferred()
    bundle = Bundle.open(folder, options.tokenizer)
    betas = {
        name: value
        for name in ("beta_start", "beta_end", "beta_schedule")
        if (value := getattr(options, name)) is not None
    }
    bundle = dataclasses.replace(bundle, scheduler={**bundle.scheduler, **betas})
    precision = "f32" if options.precision == "full" else None
    engine = choose(
        bundle, options.engine, options.device, options.threads, options.cache_dir, precision
    )
    print(f"model: {folder}; {engine.name} on {engine.device}", file=sys.stderr)
    if folder == catalog.bundled() and not options.model:
        print(
            "this is the small bundled model; for Stable Diffusion convert a checkpoint: "
            "pleinair-export CompVis/stable-diffusion-v1-4 models/stable-diffusion-v1-4",
            file=sys.stderr,
        )
    return StableDiffusionPipeline(bundle, engine)


def _paint_all(
    pipe: StableDiffusionPipeline, options: argparse.Namespace, jobs: list[tuple[str, int]]
) -> Iterator[tuple[Image.Image, dict[str, Any]]]:
    """One call a picture, so that each is saved as soon as it is done."""
    settings: dict[str, Any] = {
        "negative_prompt": options.negative_prompt,
        "width": options.W,
        "height": options.H,
        "num_inference_steps": options.steps,
        "guidance_scale": options.scale,
        "scheduler": options.scheduler,
        "eta": options.eta,
        "clip_skip": options.clip_skip,
    }
    latents = None
    if options.fixed_code:
        latents = pipe.start_noise(jobs[0][1], options.W, options.H)
    with StageBars(len(jobs)) as bars:
        for prompt, seed in jobs:
            output = pipe(prompt, seed=seed, latents=latents, callback_on_stage=bars, **settings)
            bars.picture_done()
            yield output.images[0], _record(pipe, prompt, seed, output.images[0], settings)


def _record(
    pipe: StableDiffusionPipeline,
    prompt: str,
    seed: int,
    image: Image.Image,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """What a picture's file says of how it was made: the defaults by their values."""
    defaults = pipe.defaults
    filled = {
        "width": image.width,
        "height": image.height,
        "num_inference_steps": defaults.steps,
        "guidance_scale": defaults.guidance_scale,
        "scheduler": defaults.scheduler or pipe.bundle.scheduler["_class_name"],
    }
    given = {name: value for name, value in settings.items() if value is not None}
    record = {"prompt": prompt, "seed": seed, "model": pipe.bundle.name, **filled, **given}
    return {**record, "version": f"Pleinair {_version()}"}


def _version() -> str:
    try:
        return version("pleinair")
    except PackageNotFoundError:  # run from a checkout that is on the path but not installed
        return "(not installed)"


def _pictures_each(options: argparse.Namespace) -> int:
    for name in ("n_samples", "n_iter"):
        if getattr(options, name) < 1:
            raise SettingError(f"--{name} is {getattr(options, name)}; give 1 or more")
    if options.n_rows < 0:
        raise SettingError(f"--n_rows is {options.n_rows}; give 0 or more")
    return int(options.n_samples * options.n_iter)


def _check_targets(options: argparse.Namespace, pictures: int) -> None:
    """Refuse now what could not be saved after minutes of painting."""
    if options.skip_save and options.skip_grid:
        return
    if options.output and pictures > 1:
        raise SettingError(f"--output names one picture, {pictures} are asked for; use --outdir")
    check_target(options.output or next_numbered(options.outdir / "samples"))


def _save(image: Image.Image, settings: dict[str, Any], options: argparse.Namespace) -> Path:
    if options.output:
        return save(image, options.output, settings)
    return save_numbered(image, options.outdir / "samples", settings)
