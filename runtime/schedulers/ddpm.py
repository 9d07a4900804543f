"""DDPM: the ancestral sampler of denoising diffusion probabilistic models [Ho et al. 2020]."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

from .arrays import Array
from .clipping import ClippingScheduler
from .scheduler import Choices


@dataclass(kw_only=True, eq=False)
class DDPM(ClippingScheduler):
    """Draws from the posterior q(x_prev | x_t, x_0) with the x_0 that the model predicts."""

    variance_type: str = "fixed_small"

    choices: ClassVar[Choices] = {
        **ClippingScheduler.choices,
        "variance_type": ("fixed_small", "fixed_small_log", "fixed_large"),
    }

    def set_timesteps(self, num_inference_steps: int) -> None:
        self.timesteps = self._spaced(self._start(num_inference_steps))
        self._check_start()

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
        x_0 = self._clean(model_output, sample, a_t)
        # Eq. 7: the posterior's mean and variance.
        mean = (sqrt(a_prev) * beta / (1 - a_t)) * x_0
        mean = mean + (sqrt(alpha) * (1 - a_prev) / (1 - a_t)) * sample
        if not self.needs_noise(t):
            return mean
        # fixed_small_log is fixed_small by way of its logarithm.
        variance = max((1 - a_prev) / (1 - a_t) * beta, 1e-20)
        if self.variance_type == "fixed_large":
            variance = beta
        return mean + sqrt(variance) * self._drawn(noise, t)
