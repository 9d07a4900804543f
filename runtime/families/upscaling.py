"""Upscaling by a model made for it: Stable Diffusion's x4 upscaler [Rombach et al. 2022]."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..denoise.start import Draws, Start
from ..schedulers import Scheduler

Array: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Upscaling:
    """Noise, with the small picture beside it, which has as many dots as the latents have cells.

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
