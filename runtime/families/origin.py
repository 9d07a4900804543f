"""What all images of a call begin with, as the model at hand takes it."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..denoise.inpainting import BlendedInpainting, TrainedInpainting
from ..denoise.posterior import Posterior
from ..denoise.start import Draws, FromPicture, Start
from ..images.original import Canvas
from ..model.bundle import INPAINTING, INSTRUCTION, Bundle
from ..request import Settings
from ..schedulers import Scheduler, from_config
from .instruction import Instruction
from .upscaling import Upscaling

Array: TypeAlias = NDArray[np.float32]


class Origin(Protocol):
    """`begin` draws what is random about one image, and sets where the scheduler begins."""

    def begin(self, scheduler: Scheduler, draws: Draws) -> Start: ...


def origin_of(
    canvas: Canvas,
    bundle: Bundle,
    settings: Settings,
    encode: Callable[[Array], Posterior],
) -> Origin:
    """The picture on the canvas, encoded once however many images are painted from it."""
    if settings.noise_level is not None:
        noising = from_config(bundle.low_res_scheduler)
        return Upscaling(canvas.pixels, settings.noise_level, noising, bundle.latent_channels)
    if bundle.task == INSTRUCTION:
        return Instruction(encode(canvas.pixels), guided=settings.guidance is not None)
    how = settings.steps, settings.strength
    if canvas.mask is None:
        return FromPicture(encode(canvas.pixels), *how)
    mask = canvas.latent_mask(bundle.vae_scale_factor)
    if bundle.task == INPAINTING:
        picture = encode(canvas.pixels) if settings.strength < 1 else None
        return TrainedInpainting(picture, encode(canvas.masked_pixels), mask, *how)
    return BlendedInpainting(encode(canvas.pixels), mask, *how)
