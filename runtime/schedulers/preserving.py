"""What the DPM-Solver family shares: x = alpha_t * x_0 + sigma_t * eps, always of unit variance.

[Lu et al. 2022, DPM-Solver and DPM-Solver++]. On the ladder of sigmas alpha_t = 1 / sqrt(sigma^2 +
1) and sigma_t = sigma * alpha_t. The solvers count in lambda = log(alpha_t / sigma_t), half the
logarithm of the signal-to-noise ratio, which is -log(sigma).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import numpy as np

from . import prediction, sigmas, spacing
from .arrays import Array
from .scheduler import Choices
from .trained_ladder import TrainedLadderScheduler


@dataclass(kw_only=True, eq=False)
class PreservingScheduler(TrainedLadderScheduler):
    """Options of the family; the updates below all predict x_0, the ++ of DPM-Solver++."""

    solver_order: int = 2
    lower_order_final: bool = True
    lambda_min_clipped: float = -math.inf

    choices: ClassVar[Choices] = {**TrainedLadderScheduler.choices, "solver_order": (1, 2, 3)}
    refuses: ClassVar[tuple[str, ...]] = (
        *TrainedLadderScheduler.refuses,
        "thresholding",
        "use_flow_sigmas",
        "use_dynamic_shifting",
    )

    def pred_original_sample(self, model_output: Array, t: float, sample: Array) -> Array:
        return self._clean(model_output, sample, self._index(t))

    def add_noise(self, original: Array, noise: Array, t: float) -> Array:
        alpha, sigma = alpha_sigma(self._rung(t))
        return alpha * original + sigma * noise

    def set_timesteps(self, num_inference_steps: int) -> None:
        n = self._start(num_inference_steps)
        steps = self._half_open(n)
        rungs: Array = np.interp(steps, np.arange(len(self._table)), self._table)
        if self._respaced:
            rungs = self._respace(self._table[::-1], n)
            steps = sigmas.to_timesteps(rungs, self._table)
            if self._rounds_timesteps():
                steps = steps.round()
        self.sigmas = self._falling(np.append(rungs, self._last_sigma(rungs)))
        self.timesteps = steps.astype(np.int64)
        self._outputs: list[Array] = []

    def _half_open(self, n: int) -> Array:
        train = self.num_train_timesteps
        # Above the clip lambda is too small, that is, the noise too pure, to be stable.
        lambdas = -np.log(self._table[::-1])
        last = train - int(np.searchsorted(lambdas, self.lambda_min_clipped))
        return spacing.half_open(self.timestep_spacing, n, train, self.steps_offset, last)

    def _rounds_timesteps(self) -> bool:
        """Karras timesteps are rounded; exponential ones diffusers cuts off, so we do."""
        return self.use_karras_sigmas

    def _clean(self, m: Array, x: Array, i: int) -> Array:
        """x_0, from what the model said at rung i."""
        return prediction.clean(self.prediction_type, m, x, *alpha_sigma(float(self.sigmas[i])))

    def _lambda(self, i: int) -> float:
        return half_log_snr(float(self.sigmas[i]))


def half_log_snr(sigma: float) -> float:
    """lambda at a rung; infinite where no noise is left."""
    return -math.log(sigma) if sigma else math.inf


def alpha_sigma(sigma: float) -> tuple[float, float]:
    """alpha_t and sigma_t at a rung."""
    alpha = 1 / sqrt(sigma**2 + 1)
    return alpha, sigma * alpha


def dpm_update(
    x: Array,
    derivatives: list[Array],
    sigma_s: float,
    sigma_t: float,
    *,
    alpha: Callable[[float], float] = lambda sigma: alpha_sigma(sigma)[0],
    midpoint: bool = False,
    noise: Array | None = None,
) -> Array:
    """x at sigma_t from x at sigma_s and the derivatives of x_0 by lambda, the 0th first.

    The exact solution for a polynomial x_0 [Lu et al. 2022, DPM-Solver++, eq. 14 and appendix];
    with `midpoint` the first derivative has half the weight of the 0th instead, which agrees to
    the second order. With `noise` it solves the SDE: as if the step were twice as long, and noised
    again to sigma_t.

    alpha: how much of x_0 is in x at a rung; beside it stand sigma times as much noise.
    """
    if sigma_t == sigma_s:
        return x
    alpha_t = alpha(sigma_t)
    h = half_log_snr(sigma_t) - half_log_snr(sigma_s)
    reach = 2 * h if noise is not None else h
    decay = math.exp(-reach)
    weights = [1 - decay]
    if len(derivatives) > 1:
        weights.append((1 - decay) / 2 if midpoint else 1 - (1 - decay) / reach)
    if len(derivatives) > 2:
        # The sign of 1/2 differs for the SDE in diffusers, from which pictures have to be the same.
        half = 0.5 if noise is None else -0.5
        weights.append(half - (decay - 1 + reach) / reach**2)
    shrink = alpha_t * sigma_t / (sigma_s * alpha(sigma_s))
    x = (shrink if noise is None else shrink * math.exp(-h)) * x
    for weight, derivative in zip(weights, derivatives, strict=True):
        x = x + (alpha_t * weight) * derivative
    if noise is not None:
        x = x + (alpha_t * sigma_t * sqrt(1 - decay)) * noise
    return x
