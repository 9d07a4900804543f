"""TCD: strategic stochastic sampling of trajectory consistency models [Zheng et al. 2024]."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import numpy as np

from . import prediction
from .arrays import Array
from .consistency import ConsistencyScheduler


@dataclass(kw_only=True, eq=False)
class TCD(ConsistencyScheduler):
    """Steps below the next timestep t, to (1 - eta) t, and noises up to it but for the last step.

    eta, the paper's gamma: 0 is deterministic; at 1 every step goes to the end, as LCM's do (in
    diffusers an argument of step).
    """

    eta: float = 0.3

    lacks: ClassVar[tuple[str, ...]] = ("clip_sample", "clip_sample_range")

    def needs_noise(self, t: float) -> bool:
        return self.eta > 0 and super().needs_noise(t)

    def step(
        self, model_output: Array, t: float, sample: Array, noise: Array | None = None
    ) -> Array:
        i, noisy = self._index(t), self.needs_noise(t)
        self._now = i + 1
        after = int(self.timesteps[i + 1]) if i + 1 < len(self.timesteps) else 0
        # In float32, as torch multiplies: what lies at a whole number would else be cut to another.
        below = int(np.floor(np.float32(1 - self.eta) * np.float32(after)))
        a_t, a_after, a_s = map(self._alpha_bar, (t, after, below))
        x_0 = self._clean(model_output, sample, a_t)
        eps = prediction.noise(self.prediction_type, model_output, sample, *self._alpha_sigma(a_t))
        alpha, sigma = self._alpha_sigma(a_s)
        x = alpha * x_0 + sigma * eps
        if not noisy:
            return x
        kept = a_after / a_s
        return sqrt(kept) * x + sqrt(1 - kept) * self._drawn(noise, t)
