"""Where the denoising of one image begins: in noise, or in a picture with noise on it."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..schedulers import Scheduler
from .noise import TorchNoise
from .posterior import Posterior
from .variation import Variation

Array: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Draws:
    """The random numbers of one image: `stream`, read in the order in which diffusers draws.

    given: the start noise, where it is not drawn.
    """

    stream: TorchNoise
    given: Array | None = None
    variation: Variation | None = None

    def start(self, shape: tuple[int, ...]) -> Array:
        """The noise that an image begins with, of deviation 1."""
        noise = self.stream.normal(shape) if self.given is None else self.given
        return noise if self.variation is None else self.variation.of(noise)


@dataclass(frozen=True)
class Kept:
    """Latents of a picture that show wherever the mask, (1, 1, rows, columns), is 0."""

    picture: Array
    noise: Array
    mask: Array

    def around(self, latents: Array, scheduler: Scheduler, t: Any) -> Array:
        """The masked part of `latents` in the picture as noisy as they are before timestep t.

        t None: after the last step. [Avrahami et al. 2023, Blended Latent Diffusion, alg. 1]
        """
        known = self.picture if t is None else scheduler.add_noise(self.picture, self.noise, t)
        return (1 - self.mask) * known + self.mask * latents


@dataclass(frozen=True)
class Start:
    """One image, before its first step.

    latents: (1, channels, rows, columns), as noisy as the scheduler has them at that step.
    first: which of the scheduler's timesteps it is.
    beside: more channels that the denoiser sees beside the latents: (1, more, rows, columns).
    kept: what a mask leaves alone, put back after every step.
    """

    latents: Array
    first: int = 0
    beside: Array | None = None
    kept: Kept | None = None


class Origin(Protocol):
    """What all images of a call begin with."""

    def begin(self, scheduler: Scheduler, draws: Draws) -> Start:
        """Draw what is random about one image, and set where the scheduler begins."""
        ...


@dataclass(frozen=True)
class Blank:
    """Text to image: nothing but noise."""

    shape: tuple[int, int, int, int]

    def begin(self, scheduler: Scheduler, draws: Draws) -> Start:
        return Start(draws.start(self.shape) * np.float32(scheduler.init_noise_sigma))


@dataclass(frozen=True)
class FromPicture:
    """Image to image [Meng et al. 2022, SDEdit]: the picture, noised to where the steps begin."""

    picture: Posterior
    steps: int
    strength: float

    def begin(self, scheduler: Scheduler, draws: Draws) -> Start:
        first = begin_at(scheduler, self.steps, self.strength)
        picture = self.picture.latents(draws.stream)
        noise = draws.start(picture.shape)
        return Start(scheduler.add_noise(picture, noise, scheduler.timesteps[first]), first)


def seen(latents: Array, beside: Array | None, branches: Sequence[str], blind: Set[str]) -> Array:
    """What the denoiser sees in a batch of branches: latents, and what stands beside them.

    latents, beside: (1, channels, rows, columns). blind: the branches that see zeros beside them.
    """
    if beside is None:
        return np.repeat(latents, len(branches), axis=0)
    rows = [
        np.concatenate([latents, np.zeros_like(beside) if branch in blind else beside], axis=1)
        for branch in branches
    ]
    return np.concatenate(rows)


def begin_at(scheduler: Scheduler, steps: int, strength: float) -> int:
    """Tell the scheduler where among its timesteps the run begins; returns that index."""
    first = scheduler.first_step(steps, strength)
    scheduler.set_begin_index(first)
    return first
