"""LMS: linear multistep, Adams-Bashforth on a ladder of uneven rungs (k-diffusion's sample_lms)."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import numpy as np

from .arrays import Array
from .exploding import ExplodingScheduler

ORDER = 4


@dataclass(kw_only=True, eq=False)
class LMS(ExplodingScheduler):
    """Integrates the polynomial through the last four slopes."""

    lacks: ClassVar[tuple[str, ...]] = (
        "rescale_betas_zero_snr",
        "sigma_min",
        "sigma_max",
        "final_sigmas_type",
    )

    def set_timesteps(self, num_inference_steps: int) -> None:
        super().set_timesteps(num_inference_steps)
        self._slopes: list[Array] = []

    def step(
        self, model_output: Array, t: float, sample: Array, noise: Array | None = None
    ) -> Array:
        i = self._index(t)
        self._now = i + 1
        slope = self._slope(model_output, sample, float(self.sigmas[i]))
        self._slopes = [slope, *self._slopes[: ORDER - 1]]
        rungs = self.sigmas[max(0, i + 1 - ORDER) : i + 1][::-1].astype(np.float64)
        weights = lagrange_integrals(rungs, *self._step_down(i))
        # A run that began part-way has fewer slopes than rungs above it: diffusers, too, then
        # drops the terms it has no slope for.
        for weight, past in zip(weights, self._slopes, strict=False):
            sample = sample + weight * past
        return sample


def lagrange_integrals(nodes: Array, start: float, stop: float) -> list[float]:
    """For each node the integral from `start` to `stop` of its Lagrange basis polynomial.

    By Gauss and Legendre's rule of two points, which is exact for the four nodes of a cubic.
    """
    half = (stop - start) / 2
    tau = (start + stop) / 2 + half * np.array([[-1.0], [1.0]]) / sqrt(3)
    weights = []
    for j, node in enumerate(nodes):
        others = np.delete(nodes, j)
        weights.append(float(half * np.prod((tau - others) / (node - others), axis=1).sum()))
    return weights
