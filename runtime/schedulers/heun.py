"""Heun's method [Karras et al. 2022, algorithm 1]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from . import prediction
from .arrays import Array
from .exploding import ExplodingScheduler


@dataclass(kw_only=True, eq=False)
class Heun(ExplodingScheduler):
    """An Euler step, then the same step again with the mean of the slopes at its two ends.

    So each timestep but the first comes twice, and n steps ask the model 2n - 1 times.
    """

    beta_start: float = 0.00085
    beta_end: float = 0.012
    clip_sample: bool = False
    clip_sample_range: float = 1.0

    order = 2
    lacks: ClassVar[tuple[str, ...]] = (
        "rescale_betas_zero_snr",
        "sigma_min",
        "sigma_max",
        "final_sigmas_type",
    )

    def set_timesteps(self, num_inference_steps: int) -> None:
        super().set_timesteps(num_inference_steps)
        self.timesteps = np.repeat(self.timesteps, 2)[1:]
        self.sigmas = np.repeat(self.sigmas, 2)[1:-1]
        self._half: tuple[Array, Array] | None = None

    def step(
        self, model_output: Array, t: float, sample: Array, noise: Array | None = None
    ) -> Array:
        i = self._index(t)
        self._now = i + 1
        slope = self._slope(model_output, sample, float(self.sigmas[i]))
        if self._half is None:
            self._half = sample, slope
            sigma, sigma_next = self._step_down(i)
            return sample + slope * (sigma_next - sigma)
        (start, first), self._half = self._half, None
        sigma, sigma_next = self._step_down(i - 1)
        return start + (first + slope) / 2 * (sigma_next - sigma)

    def _slope(self, m: Array, x: Array, sigma: float) -> Array:
        if not self.clip_sample:
            return super()._slope(m, x, sigma)
        x_0 = prediction.denoised(self.prediction_type, m, x, sigma)
        return (x - np.clip(x_0, -self.clip_sample_range, self.clip_sample_range)) / sigma
