"""Ancestral sampling with Euler steps (k-diffusion's sample_euler_ancestral)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .arrays import Array
from .exploding import ExplodingScheduler
from .scheduler import Choices


@dataclass(kw_only=True, eq=False)
class EulerAncestral(ExplodingScheduler):
    """Steps down below the next sigma, then noises up to it, as DDPM does on this ladder."""

    choices: ClassVar[Choices] = {
        **ExplodingScheduler.choices,
        "prediction_type": ("epsilon", "v_prediction"),
    }
    lacks: ClassVar[tuple[str, ...]] = (
        "use_karras_sigmas",
        "use_exponential_sigmas",
        "sigma_min",
        "sigma_max",
        "final_sigmas_type",
    )
    refuses: ClassVar[tuple[str, ...]] = ()

    def needs_noise(self, t: float) -> bool:
        return True

    def step(
        self, model_output: Array, t: float, sample: Array, noise: Array | None = None
    ) -> Array:
        i = self._index(t)
        self._now = i + 1
        # float32, as in diffusers: where sigma falls fast, `down` is what rounding leaves of it.
        high, low = np.square(self.sigmas[i]), np.square(self.sigmas[i + 1])
        up = float(np.sqrt(low * (high - low) / high))
        down = float(np.sqrt(np.maximum(low - np.square(np.float32(up)), 0)))
        sigma = float(self.sigmas[i])
        x = sample + (down - sigma) * self._slope(model_output, sample, sigma)
        noisy: Array = x + up * self._drawn(noise, t)
        return noisy
