"""EDM: models trained on noise of any width, as "Elucidating the Design Space" has them.

[Karras et al. 2022, table 1, column "ours"]. A sample is x = x_0 + sigma * eps. The model is shown
c_in * x and, as its timestep, c_noise = 1/4 log sigma; x_0 is c_skip * x + c_out * m. Playground
v2.5 and CosXL are trained so.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import numpy as np

from ..errors import SchedulerError
from . import sigmas
from .arrays import Array
from .ladder import LadderScheduler
from .scheduler import Choices


@dataclass(kw_only=True, eq=False)
class EdmScheduler(LadderScheduler):
    """The ladder stands between sigma_min and sigma_max; sigma_data is the deviation of x_0."""

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    sigma_data: float = 0.5
    sigma_schedule: str = "karras"
    rho: float = 7.0
    prediction_type: str = "epsilon"
    final_sigmas_type: str = "zero"

    choices: ClassVar[Choices] = {
        "sigma_schedule": ("karras", "exponential"),
        "prediction_type": ("epsilon", "v_prediction"),
        "final_sigmas_type": ("zero", "sigma_min"),
    }
    lacks: ClassVar[tuple[str, ...]] = ("use_karras_sigmas", "use_exponential_sigmas")
    refuses: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sigma_min >= self.sigma_max:
            raise SchedulerError(
                f"scheduler option sigma_min is {self.sigma_min}: it has to be less than "
                f"sigma_max, {self.sigma_max}"
            )
        self.sigmas = np.zeros(1, np.float32)

    @property
    def init_noise_sigma(self) -> float:
        return sqrt(self.sigma_max**2 + 1)

    def set_timesteps(self, num_inference_steps: int) -> None:
        """One step begins at sigma_max, with either schedule."""
        n = self._start(num_inference_steps)
        if self.sigma_schedule == "karras":
            rungs = sigmas.karras(self.sigma_min, self.sigma_max, n, self.rho)
        else:
            rungs = sigmas.exponential(self.sigma_min, self.sigma_max, n)
        last = 0.0 if self.final_sigmas_type == "zero" else self.sigma_min
        self.sigmas = self._falling(np.append(rungs, last))
        self.timesteps = np.float32(0.25) * np.log(self.sigmas[:n])

    def scale_model_input(self, sample: Array, t: float) -> Array:
        return sample / sqrt(float(self.sigmas[self._index(t)]) ** 2 + self.sigma_data**2)

    def pred_original_sample(self, model_output: Array, t: float, sample: Array) -> Array:
        return self._clean(model_output, sample, self._index(t))

    def add_noise(self, original: Array, noise: Array, t: float) -> Array:
        return original + self._rung(t) * noise

    def _clean(self, m: Array, x: Array, i: int) -> Array:
        """x_0, from what the model said at rung i."""
        sigma, data = float(self.sigmas[i]), self.sigma_data
        width = sigma**2 + data**2
        c_out = sigma * data / sqrt(width)
        return (data**2 / width) * x + (c_out if self.prediction_type == "epsilon" else -c_out) * m
