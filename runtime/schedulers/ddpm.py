"""DDPM: the ancestral sampler of denoising diffusion probabilistic models [Ho et al. 2020]."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import numpy as np

from . import prediction
from .arrays import Array
from .scheduler import Choices, Scheduler


@dataclass(kw_only=True, eq=False)
class DDPM(Scheduler):
    """Draws from the posterior q(x_prev | x_t, x_0) with the x_0 that the model predicts."""

    variance_type: str = "fixed_small"
    clip_sample: bool = True
    clip_sample_range: float = 1.0

    choices: ClassVar[Choices] = {
        **Scheduler.choices,
        "variance_type": ("fixed_small", "fixed_small_log", "fixed_large"),
    }
    refuses: ClassVar[tuple[str, ...]] = ("thresholding",)

    def set_timesteps(self, num_inference_steps: int) -> None:
        self.timesteps = self._spaced(self._start(num_inference_steps))

    def needs_noise(self, t: float) -> bool:
        return t > 0

    def step(
        self, model_output: Array, t: float, sample: Array, noise: Array | None = None
    ) -> Array:
        after = self._find(t) + 1
        a_t = self._alpha_bar(t)
        a_prev = self._alpha_bar(self.timesteps[after]) if after < len(self.timesteps) else 1.0
        alpha = a_t / a_prev
        beta = 1 - alpha
        x_0 = prediction.clean(self.prediction_type, model_output, sample, *self._alpha_sigma(a_t))
        if self.clip_sample:
            x_0 = np.clip(x_0, -self.clip_sample_range, self.clip_sample_range)
        # Eq. 7: the posterior's mean and variance.
        mean = (sqrt(a_prev) * beta / (1 - a_t)) * x_0
        mean = mean + (sqrt(alpha) * (1 - a_prev) / (1 - a_t)) * sample
        if not self.needs_noise(t):
            return mean
        variance = max((1 - a_prev) / (1 - a_t) * beta, 1e-20)
        if self.variance_type == "fixed_large":
            variance = beta
        return mean + sqrt(variance) * self._drawn(noise, t)
