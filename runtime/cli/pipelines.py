"""The model that the options ask for, opened, and opened again for a prompt's own LoRA files."""

import argparse
import contextlib
import dataclasses
import logging
import re
from collections.abc import Iterator
from pathlib import Path

from .. import families
from ..adapters import inversion, lora
from ..engines.choice import Setup, choose
from ..engines.protocol import Engine
from ..errors import PleinairError, SettingError
from ..exits import tell
from ..families.family import Family
from ..hub import converted
from ..images import watermark
from ..model import catalog
from ..model.bundle import Bundle
from ..model.controlnet import opened
from ..pipeline import StableDiffusionPipeline
from ..speed.profiles import AUTO, DEFAULT, Profile
from ..speed.tuning import Tuning
from .adapters import Weighed
from .arguments import BETAS, given
from .picture import Picture

_log = logging.getLogger("pleinair")


def family_of(options: argparse.Namespace) -> Family:
    """The model, with what the options say of its scheduler."""
    name = options.model or catalog.bundled()
    format = "onnx" if options.engine == "onnxruntime" else "openvino"
    config = Path(options.config) if options.config else None
    bundle = Bundle.open(converted.folder_of(name, format, config), _tokenizer(options))
    scheduler = {**bundle.scheduler, **given(options, BETAS)}
    family = families.of(dataclasses.replace(bundle, scheduler=scheduler))
    _check_latents(options, family)
    return family


def _tokenizer(options: argparse.Namespace) -> str | None:
    """The folder that the options name; of a hub id that is not here, the model's is as good."""
    name: str | None = options.tokenizer
    if name is None or Path(name).exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return name
    _log.info("%s is no folder here; the model's own tokenizer is used", name)
    return None


def _check_latents(options: argparse.Namespace, family: Family) -> None:
    known = {"C": family.space.channels, "f": family.space.factor}
    for flag, value in known.items():
        if getattr(options, flag) not in (None, value):
            raise SettingError(
                f"--{flag} is {getattr(options, flag)}; {family.bundle.name} has {value}: "
                "leave it out"
            )


class Pipelines:
    """One pipeline at a time: a model is large, and its weights differ with the LoRA files."""

    def __init__(self, options: argparse.Namespace, family: Family) -> None:
        self.family = family
        self._options = options
        self._tuning = Tuning.of(family.bundle)
        self._engines: dict[tuple[Setup | None, str], Engine] = {}
        self._loras = [lora.opened(named) for named in options.lora]
        self._embeddings = [inversion.opened(named) for named in options.embedding]
        self._controlnets = opened(options.controlnet)
        self._last: tuple[tuple[Weighed, str, str], StableDiffusionPipeline] | None = None
        self._tell()
        if catalog.is_bundled(family.bundle.path) and not options.model:
            tell(
                "this is the small bundled model; for Stable Diffusion: "
                "pleinair pull stable-diffusion-v1-5-fp16-ov",
            )

    def of(self, picture: Picture) -> StableDiffusionPipeline:
        """The pipeline of its profile, with its LoRA files beside those of the options."""
        profile = self._profile(picture.profile)
        wanted = picture.loras, profile.name, profile.computing(picture.precision)
        if self._last is None or self._last[0] != wanted:
            self._last = None  # its memory is needed
            named = [lora.read(path, weight) for path, weight in picture.loras]
            pipe = StableDiffusionPipeline(
                self.family,
                self._engine(*wanted[1:]),
                loras=[*self._loras, *named],
                embeddings=self._embeddings,
                controlnets=self._controlnets,
                profile=profile.name,
                max_memory=self._options.max_memory,
            )
            self._last = wanted, pipe
        return self._last[1]

    def _profile(self, asked: str | None) -> Profile:
        family = self.family
        stated = family.recommended.profile
        return self._tuning.chosen(asked, family.bundle, family.denoiser, stated)

    def _engine(self, profile: str, precision: str) -> Engine:
        """As tuned for the profile; one for all that are tuned alike."""
        tuned = self._tuning.setups.get(profile)
        if (tuned, precision) not in self._engines:
            made = _engine(self._options, self.family.bundle, tuned, precision)
            self._engines[tuned, precision] = made
        return self._engines[tuned, precision]

    def _tell(self) -> None:
        """What paints, where the prompts say nothing else."""
        asked = self._options.profile
        profile = self._profile(asked)
        engine = self._engine(profile.name, profile.computing(self._options.precision))
        words = f"model: {self.family.bundle.path}; {engine.name} on {engine.device}"
        words += f" in {engine.precision}"
        if asked == AUTO or (asked is None and profile.name != DEFAULT):
            words += f"; profile {profile.name}"
        tell(words)

    def check(self, picture: Picture) -> None:
        """Plan a picture's call, so that what is wrong shows now; nothing is compiled for it."""
        pipe = self.of(picture)  # what its LoRA files lack is said when it is opened, and once
        with _silence():
            plan = pipe.plan(**picture.call(self._options))
        if self._options.watermark is not None:
            watermark.check(*(plan.then or plan).visible, self._options.watermark)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without the library's remarks: they are made when the picture is painted."""
    logger = logging.getLogger("pleinair")
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = False


def _engine(
    options: argparse.Namespace, bundle: Bundle, tuned: Setup | None, precision: str
) -> Engine:
    def chosen(engine: str, device: str, precision: str) -> Engine:
        return choose(
            bundle.graphs,
            engine,
            device,
            threads=options.threads,
            cache_dir=options.cache_dir,
            precision=precision,
            tuned=tuned,
        )

    try:
        return chosen(options.engine or "auto", options.device or "auto", precision)
    except PleinairError as error:
        if not options.machine_restored:
            raise
        tell(f"painting on what is here instead: {error}")
        return chosen("auto", "auto", "f32" if precision == "f32" else "auto")
