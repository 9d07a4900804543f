"""DDIM: denoising diffusion implicit models [Song et al. 2020]."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from . import prediction
from .arrays import Array
from .clipping import ClippingScheduler


@dataclass(kw_only=True, eq=False)
class DDIM(ClippingScheduler):
    """Deterministic at eta 0, as noisy as DDPM at 1 (in diffusers eta is an argument of step)."""

    set_alpha_to_one: bool = True
    eta: float = 0.0

    def set_timesteps(self, num_inference_steps: int) -> None:
        n = self._start(num_inference_steps)
        self.timesteps = self._spaced(n)
        self._check_start()
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
        x_0 = self._clean(model_output, sample, a_t)
        eps = prediction.noise(self.prediction_type, model_output, sample, *self._alpha_sigma(a_t))
        # Eq. 16 for sigma, eq. 12 for the step.
        sigma = self.eta * sqrt((1 - a_prev) / (1 - a_t) * (1 - a_t / a_prev))
        x = sqrt(a_prev) * x_0 + sqrt(1 - a_prev - sigma**2) * eps
        return x + sigma * self._drawn(noise, t) if self.needs_noise(t) else x

    def _final_alpha_bar(self) -> float:
        return 1.0 if self.set_alpha_to_one else self._alpha_bar(0)
