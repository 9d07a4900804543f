"""LCM: multistep sampling of latent consistency models [Luo et al. 2023]."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from .arrays import Array
from .consistency import ConsistencyScheduler

SIGMA_DATA = 0.5


@dataclass(kw_only=True, eq=False)
class LCM(ConsistencyScheduler):
    """Jumps to x_0 at every step and, but for the last, noises it again to the next timestep."""

    timestep_scaling: float = 10.0

    def step(
        self, model_output: Array, t: float, sample: Array, noise: Array | None = None
    ) -> Array:
        i, noisy = self._index(t), self.needs_noise(t)
        self._now = i + 1
        x_0 = self._clean(model_output, sample, self._alpha_bar(t))
        # The boundary condition of a consistency function: f(x, 0) = x.
        scaled = int(t) * self.timestep_scaling
        norm = scaled**2 + SIGMA_DATA**2
        x_0 = (scaled / sqrt(norm)) * x_0 + (SIGMA_DATA**2 / norm) * sample
        if not noisy:
            return x_0
        alpha, sigma = self._alpha_sigma(self._alpha_bar(self.timesteps[i + 1]))
        return alpha * x_0 + sigma * self._drawn(noise, t)
