"""Upscaling by a model made for it: Stable Diffusion's x4 upscaler [Rombach et al. 2022]."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct
from PIL import Image

from .. import schedulers
from ..denoise.start import Draws, Origin, Start
from ..engines.protocol import Shapes
from ..errors import Message, SettingError
from ..files import conform, read_json
from ..images.original import Canvas, Original
from ..model.bundle import Bundle
from ..model.latent_space import LatentSpace
from ..options.groups import Picture
from ..options.option import option
from ..schedulers import Scheduler
from .family import Array, Encode, grey
from .settings import Settings
from .stable_diffusion import StableDiffusion, UNetFamily

# Older folders do not say it, and diffusers takes no other for it.
_SCALING = 0.08333
# diffusers': where that much noise is put on the small picture, and the most.
_NOISE_LEVEL, _MOST_NOISE = 20, 350
_COLOURS = 3


class UpscalerIndex(Struct):
    """What an upscaler's model_index.json says of it."""

    max_noise_level: Annotated[int, Meta(ge=0, le=1_000_000)] = _MOST_NOISE


@dataclass(frozen=True, kw_only=True)
class UpscalerOptions:
    """Of upscalers."""

    noise_level: int | None = option(
        "--noise-level",
        metavar="N",
        help="x4 upscalers: how much noise on --init-img is painted over anew (default: 20)",
    )


class Upscaler(UNetFamily):
    """A UNet that sees the small picture's colours beside the latents, of as many dots as cells."""

    name = "upscalers"
    class_names = (*StableDiffusion.class_names, "StableDiffusionUpscalePipeline")
    options = UpscalerOptions
    skips_steps = False
    task = "upscaling"
    labelled = True

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        file = bundle.path / "low_res_scheduler" / "scheduler_config.json"
        config = read_json(file, "an upscaler needs it; copy it from the checkpoint")
        self.low_res_scheduler = schedulers.from_config(config)
        index = conform(bundle.index, UpscalerIndex, bundle.path / "model_index.json")
        known = min(self.config.num_class_embeds, self.low_res_scheduler.num_train_timesteps) - 1
        self.most_noise = min(index.max_noise_level, known)

    @classmethod
    def channels(cls, latents: int) -> tuple[int, ...]:
        return (latents + _COLOURS,)

    def _space(self, config: Mapping[str, Any], part: str) -> LatentSpace:
        return super()._space({**config, "scaling_factor": _SCALING}, part)

    def denoiser_inputs(self, rows: int, width: int, height: int) -> Shapes:
        labels: Sequence[int] = (rows,)
        return {**super().denoiser_inputs(rows, width, height), "class_labels": labels}

    @property
    def multiple(self) -> int:
        return max(8, self.space.factor * self.upscales)

    @property
    def upscales(self) -> int:
        return self.space.factor

    def check_call(self, picture: Picture, options: UpscalerOptions) -> None:
        if picture.image is None:
            raise SettingError(
                Message("{0} makes a picture larger: give {image}", self.bundle.name)
            )
        if picture.mask_image is not None or picture.strength is not None:
            raise SettingError(
                Message(
                    "{0} makes whole pictures larger: leave out {mask_image} and {strength}; "
                    "{noise_level} says how much is painted anew",
                    self.bundle.name,
                )
            )
        level, most = options.noise_level, self.most_noise
        if level is not None and not (isinstance(level, int) and 0 <= level <= most):
            raise SettingError(
                Message("{noise_level} is {0}; give a whole number from 0 to {1}", level, most)
            )

    def canvas(self, original: Original, width: int, height: int) -> Canvas:
        small = width // self.upscales, height // self.upscales
        return original.canvas(small, self.space.factor, Image.Resampling.BICUBIC)

    def example_pictures(self, size: int) -> dict[str, Image.Image]:
        return {"image": grey(size // self.upscales)}

    def extra_inputs(self, settings: Settings, branch: str) -> dict[str, Array]:
        level = np.array([self._noise_level(settings)], np.float32)
        return {**super().extra_inputs(settings, branch), "class_labels": level}

    def _noise_level(self, settings: Settings) -> int:
        level: int | None = settings.options.noise_level
        return min(_NOISE_LEVEL, self.most_noise) if level is None else level

    @property
    def encodes_pictures(self) -> bool:
        return False

    def origin(self, settings: Settings, encode: Encode) -> Origin:
        assert settings.canvas is not None  # checked with the pictures
        return Upscaling(
            picture=settings.canvas.pixels,
            noise_level=self._noise_level(settings),
            low_res_scheduler=self.low_res_scheduler,
            latent_channels=self.space.channels,
        )


@dataclass(frozen=True)
class Upscaling:
    """Noise, with the small picture beside it.

    picture: (1, 3, rows, columns), -1 to 1.
    noise_level: the timestep up to which the picture itself is noised, so that the UNet, which is
        told of it, does not take its blur and artefacts for what is to be painted.
    low_res_scheduler: knows how much noise that is.
    """

    picture: Array
    noise_level: int
    low_res_scheduler: Scheduler
    latent_channels: int

    def begin(self, scheduler: Scheduler, draws: Draws) -> Start:
        noise = draws.stream.normal(self.picture.shape)
        picture = self.low_res_scheduler.add_noise(self.picture, noise, self.noise_level)
        latents = draws.start((1, self.latent_channels, *self.picture.shape[2:]))
        beside = picture.astype(np.float32)
        return Start(latents * np.float32(scheduler.init_noise_sigma), beside=beside)
