"""Inpainting: the masked part of a picture is painted anew, by any UNet or one made for it."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..schedulers import Scheduler
from .posterior import Posterior
from .start import Draws, Kept, Start, begin_at

Array: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class BlendedInpainting:
    """With an ordinary UNet: it paints all, and after each step what is not masked is put back.

    mask: (1, 1, rows, columns), 1 where it is painted anew.
    """

    picture: Posterior
    mask: Array
    steps: int
    strength: float

    def begin(self, scheduler: Scheduler, draws: Draws) -> Start:
        first = begin_at(scheduler, self.steps, self.strength)
        picture = self.picture.latents(draws.stream)
        noise = draws.start(picture.shape)
        # diffusers samples the masked picture here, for the other kind of UNet: without these
        # numbers a scheduler that draws its own would get others than there.
        draws.stream.normal(picture.shape)
        known = None if self.strength == 1 else picture
        latents = _noised(known, noise, scheduler, scheduler.timesteps[first])
        return Start(latents, first, kept=Kept(picture, noise, self.mask))


@dataclass(frozen=True)
class TrainedInpainting:
    """With a UNet of 9 channels, which sees the mask and what is around it.

    picture: None at strength 1, where nothing of it is needed.
    masked: the picture with the mask cut out.
    """

    picture: Posterior | None
    masked: Posterior
    mask: Array
    steps: int
    strength: float

    def begin(self, scheduler: Scheduler, draws: Draws) -> Start:
        first = begin_at(scheduler, self.steps, self.strength)
        picture = None if self.picture is None else self.picture.latents(draws.stream)
        noise = draws.start(self.masked.mean.shape)
        masked = self.masked.latents(draws.stream)
        latents = _noised(picture, noise, scheduler, scheduler.timesteps[first])
        return Start(latents, first, beside=np.concatenate([self.mask, masked], axis=1))


def _noised(picture: Array | None, noise: Array, scheduler: Scheduler, t: Any) -> Array:
    """The picture's latents at timestep t; without a picture, noise alone."""
    if picture is None:
        pure: Array = noise * np.float32(scheduler.init_noise_sigma)
        return pure
    return scheduler.add_noise(picture, noise, t)
