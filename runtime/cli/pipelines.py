"""The model that the options ask for, opened, and opened again for a prompt's own LoRA files."""

import argparse
import contextlib
import dataclasses
import logging
import sys
from collections.abc import Iterator

from ..adapters import inversion, lora
from ..engines.choice import choose
from ..engines.protocol import Engine
from ..errors import PleinairError, SettingError
from ..model import catalog
from ..model.bundle import Bundle
from ..model.controlnet import opened
from ..pipeline import StableDiffusionPipeline
from ..speed.profiles import AUTO
from ..speed.tuning import Setup, Tuning
from . import enlarging
from .adapters import Weighed
from .arguments import BETAS, given
from .picture import Picture


def bundle_of(options: argparse.Namespace) -> Bundle:
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


class Pipelines:
    """One pipeline at a time: a model is large, and its weights differ with the LoRA files."""

    def __init__(self, options: argparse.Namespace, bundle: Bundle) -> None:
        self.bundle = bundle
        self._options = options
        self._tuning = Tuning.of(bundle)
        self._engines: dict[Setup | None, Engine] = {}
        self._loras = [lora.opened(named) for named in options.lora]
        self._embeddings = [inversion.opened(named) for named in options.embedding]
        self._controlnets = opened(options.controlnet)
        self._last: tuple[tuple[Weighed, str], StableDiffusionPipeline] | None = None
        self._tell()
        if bundle.path == catalog.bundled() and not options.model:
            print(
                "this is the small bundled model; for Stable Diffusion: "
                "pleinair pull stable-diffusion-v1-5-fp16-ov",
                file=sys.stderr,
            )

    def of(self, picture: Picture) -> StableDiffusionPipeline:
        """The pipeline of its profile, with its LoRA files beside those of the options."""
        loras = bool(self._loras or picture.loras)
        wanted = picture.loras, self._tuning.named(picture.profile, loras)
        if self._last is None or self._last[0] != wanted:
            self._last = None  # its memory is needed
            own = [lora.read(path, weight) for path, weight in picture.loras]
            pipe = StableDiffusionPipeline(
                *(self.bundle, self._engine(wanted[1]), [*self._loras, *own]),
                *(self._embeddings, self._controlnets, wanted[1]),
                max_memory=self._options.max_memory,
            )
            self._last = wanted, pipe
        return self._last[1]

    def _engine(self, profile: str) -> Engine:
        """As tuned for the profile; one for all that are tuned alike."""
        tuned = self._tuning.setups.get(profile)
        if tuned not in self._engines:
            self._engines[tuned] = _engine(self._options, self.bundle, tuned)
        return self._engines[tuned]

    def _tell(self) -> None:
        """What paints, where the prompts say nothing else."""
        asked = self._options.profile or "exact"
        profile = self._tuning.named(asked, bool(self._loras))
        engine = self._engine(profile)
        words = f"model: {self.bundle.path}; {engine.name} on {engine.device}"
        if asked == AUTO:
            words += f"; profile {profile}"
        print(words, file=sys.stderr)

    def rehearse(self, picture: Picture) -> None:
        """Make a picture's call up to where its prompt is read, so that what is wrong shows now.

        No graph is compiled for it, but where layers are to be skipped: only the text encoder
        knows how many it has.
        """
        skips = bool(picture.settings.get("clip_skip"))

        def stop(stage: str, done: int, total: int) -> None:
            if not skips or stage == "denoise" or (stage == "encode" and done == total):
                raise enlarging.Checked

        pipe = self.of(picture)
        with contextlib.suppress(enlarging.Checked), _silence():
            enlarging.painted(pipe, picture, self._options, callback_on_stage=stop)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without the library's remarks: they are made when the picture is painted."""
    logger = logging.getLogger("pleinair")
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = False


def _engine(options: argparse.Namespace, bundle: Bundle, tuned: Setup | None) -> Engine:
    precision = None if options.precision == "autocast" else "f32"
    settings = (options.threads, options.cache_dir, precision, tuned)
    try:
        return choose(bundle, options.engine or "auto", options.device or "auto", *settings)
    except PleinairError as error:
        if not options.machine_restored:
            raise
        print(f"painting on what is here instead: {error}", file=sys.stderr)
        return choose(bundle, "auto", "auto", *settings)
