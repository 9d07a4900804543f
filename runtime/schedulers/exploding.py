"""What k-diffusion's solvers share: x = x_0 + sigma * eps, as wide as its noise.

[Song et al. 2021, variance exploding; Karras et al. 2022]. The model was trained on samples of
unit variance, so it is shown x / sqrt(sigma^2 + 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

from . import prediction, sigmas, spacing
from .arrays import Array
from .trained_ladder import TrainedLadderScheduler


@dataclass(kw_only=True, eq=False)
class ExplodingScheduler(TrainedLadderScheduler):
    """dx/dsigma = (x - x_0) / sigma, from sigmas[0] down to 0 [Karras et al. 2022, eq. 1]."""

    @property
    def init_noise_sigma(self) -> float:
        highest = float(self.sigmas.max())
        return sqrt(highest**2 + 1) if self.timestep_spacing == "leading" else highest

    def scale_model_input(self, sample: Array, t: float) -> Array:
        return sample / sqrt(float(self.sigmas[self._index(t)]) ** 2 + 1)

    def pred_original_sample(self, model_output: Array, t: float, sample: Array) -> Array:
        sigma = float(self.sigmas[self._index(t)])
        return prediction.denoised(self.prediction_type, model_output, sample, sigma)

    def add_noise(self, original: Array, noise: Array, t: float) -> Array:
        return original + self._rung(t) * noise

    def set_timesteps(self, num_inference_steps: int) -> None:
        n = self._start(num_inference_steps)
        steps = spacing.closed(
            self.timestep_spacing, n, self.num_train_timesteps, self.steps_offset
        ).astype(np.float32)
        rungs = self._interpolated(steps)
        if self._respaced:
            rungs = self._respace(rungs, n)
            steps = sigmas.to_timesteps(rungs, self._table)
        self.sigmas = self._falling(np.append(rungs, self._last_sigma(rungs)))
        self.timesteps = steps.astype(np.float32)

    def _interpolated(self, steps: Array) -> Array:
        return np.interp(steps, np.arange(len(self._table)), self._table)

    def _slope(self, m: Array, x: Array, sigma: float) -> Array:
        """dx/dsigma, from what the model said about x at `sigma`."""
        return (x - prediction.denoised(self.prediction_type, m, x, sigma)) / sigma
