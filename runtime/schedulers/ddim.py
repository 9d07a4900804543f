"""DDIM: denoising diffusion implicit models [Song et al. 2020]."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import numpy as np

from . import prediction
from .arrays import Array
from .scheduler import Scheduler


@dataclass(kw_only=True, eq=False)
class DDIM(Scheduler):
    """Deterministic at eta 0, as noisy as DDPM at 1 (in diffusers eta is an argument of step)."""

    clip_sample: bool = True
    clip_sample_range: float = 1.0
    set_alpha_to_one: bool = True
    eta: float = 0.0

    refuses: ClassVar[tuple[str, ...]] = ("thresholding",)

    def set_timesteps(self, num_inference_steps: int) -> None:
        n = self._start(num_inference_steps)
        self.timesteps = self._spaced(n)
        self._stride = self.num_train_timesteps // n

    def needs_noise(self, t: float) -> bool:
        return self.eta > 0

    def step(
        self, model_output: Array, t: float, sample: Array, noise: Array | None = None
    ) -> Array:
        self._find(t)
        before = int(t) - self._stride
        a_t = self._alpha_bar(t)
        a_prev = self._alpha_bar(before) if before >= 0 else self._final_alpha_bar()
        alpha_sigma = self._alpha_sigma(a_t)
        x_0 = prediction.clean(self.prediction_type, model_output, sample, *alpha_sigma)
        eps = prediction.noise(self.prediction_type, model_output, sample, *alpha_sigma)
        if self.clip_sample:
            x_0 = np.clip(x_0, -self.clip_sample_range, self.clip_sample_range)
        # Eq. 16 for sigma, eq. 12 for the step.
        sigma = self.eta * sqrt((1 - a_prev) / (1 - a_t) * (1 - a_t / a_prev))
        x = sqrt(a_prev) * x_0 + sqrt(1 - a_prev - sigma**2) * eps
        return x + sigma * self._drawn(noise, t) if self.needs_noise(t) else x

    def _final_alpha_bar(self) -> float:
        return 1.0 if self.set_alpha_to_one else self._alpha_bar(0)
