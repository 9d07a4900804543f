"""Euler's method [Karras et al. 2022, algorithm 2 without churn]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from . import betas
from .arrays import Array
from .exploding import ExplodingScheduler
from .scheduler import Choices


@dataclass(kw_only=True, eq=False)
class Euler(ExplodingScheduler):
    """One straight step along the slope. `continuous` timesteps show a v model 1/4 log sigma."""

    interpolation_type: str = "linear"
    timestep_type: str = "discrete"

    choices: ClassVar[Choices] = {
        **ExplodingScheduler.choices,
        "interpolation_type": ("linear", "log_linear"),
        "timestep_type": ("discrete", "continuous"),
    }

    def set_timesteps(self, num_inference_steps: int) -> None:
        super().set_timesteps(num_inference_steps)
        if self.timestep_type == "continuous" and self.prediction_type == "v_prediction":
            self.timesteps = 0.25 * np.log(self.sigmas[:-1])

    def step(
        self, model_output: Array, t: float, sample: Array, noise: Array | None = None
    ) -> Array:
        i = self._index(t)
        self._now = i + 1
        sigma, sigma_next = self._step_down(i)
        return sample + self._slope(model_output, sample, sigma) * (sigma_next - sigma)

    def _interpolated(self, steps: Array) -> Array:
        if self.interpolation_type == "linear":
            return super()._interpolated(steps)
        # diffusers makes one rung more than there are steps; the loop never reaches it.
        ends = np.log(self._table[[-1, 0]])
        return np.exp(betas.linspace(ends[0], ends[1], len(steps) + 1)).astype(np.float64)
