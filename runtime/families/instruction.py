"""Editing by instruction, "put a hat on it": InstructPix2Pix [Brooks et al. 2023]."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..denoise.posterior import Posterior
from ..denoise.start import Draws, Start
from ..schedulers import Scheduler

Array: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Instruction:
    """Noise, with a picture beside it that the UNet of 8 channels edits.

    guided: the UNet is asked three times (see `guidance.Instructed`), the last without picture.
    """

    picture: Posterior
    guided: bool

    def begin(self, scheduler: Scheduler, draws: Draws) -> Start:
        # The mean, and not scaled: so the model was trained.
        picture = self.picture.mean
        noise = draws.start(picture.shape) * np.float32(scheduler.init_noise_sigma)
        if self.guided:
            picture = np.concatenate([picture, picture, np.zeros_like(picture)])
        return Start(noise, beside=picture)
