"""Euler's method for EDM [Karras et al. 2022, algorithm 2 without churn]."""

from __future__ import annotations

from dataclasses import dataclass

from .arrays import Array
from .edm import EdmScheduler


@dataclass(kw_only=True, eq=False)
class EdmEuler(EdmScheduler):
    """One straight step along the slope (x - x_0) / sigma."""

    def step(
        self, model_output: Array, t: float, sample: Array, noise: Array | None = None
    ) -> Array:
        i = self._index(t)
        self._now = i + 1
        sigma, sigma_next = self._step_down(i)
        slope = (sample - self._clean(model_output, sample, i)) / sigma
        return sample + slope * (sigma_next - sigma)
