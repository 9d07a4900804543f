"""DEIS: the diffusion exponential integrator sampler [Zhang & Chen 2023, arXiv 2204.13902]."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from . import prediction
from .arrays import Array
from .preserving import PreservingScheduler, alpha_sigma
from .scheduler import Choices, Synonyms


@dataclass(kw_only=True, eq=False)
class DEIS(PreservingScheduler):
    """The noise is a polynomial in log(sigma) through the last steps, which is integrated exactly.

    (sec. 3.3, the variant rho-log, "logrho" in diffusers)
    """

    algorithm_type: str = "deis"
    solver_type: str = "logrho"

    choices: ClassVar[Choices] = {
        **PreservingScheduler.choices,
        "algorithm_type": ("deis",),
        "solver_type": ("logrho",),
    }
    lacks: ClassVar[tuple[str, ...]] = (
        "lambda_min_clipped",
        "sigma_min",
        "sigma_max",
        "final_sigmas_type",
        "rescale_betas_zero_snr",
    )
    synonyms: ClassVar[Synonyms] = {
        "algorithm_type": {"dpmsolver": "deis", "dpmsolver++": "deis"},
        "solver_type": dict.fromkeys(("midpoint", "heun", "bh1", "bh2"), "logrho"),
    }

    def _last_sigma(self, rungs: Array) -> float:
        """A run ends at the least noise of training; one that is spaced anew where it stands."""
        return float(rungs[-1] if self._respaced else self._table[0])

    def step(
        self, model_output: Array, t: float, sample: Array, noise: Array | None = None
    ) -> Array:
        i = self._index(t)
        self._now = i + 1
        sigma, sigma_next = self._step_down(i)
        (alpha, scaled), alpha_next = alpha_sigma(sigma), alpha_sigma(sigma_next)[0]
        x_0 = self._clean(model_output, sample, i)
        eps = prediction.noise("sample", x_0, sample, alpha, scaled)
        self._outputs = [eps, *self._outputs[: self.solver_order - 1]]
        order = min(self._order_allowed(i), len(self._outputs))
        nodes = [math.log(float(self.sigmas[i - k])) for k in range(order)]
        x = sample / alpha
        for k in range(order):
            x = x + _integral(nodes, k, sigma, sigma_next) * self._outputs[k]
        return alpha_next * x

    def _order_allowed(self, i: int) -> int:
        """Lower at the end when the steps are few."""
        left = len(self.timesteps) - i
        few = self.lower_order_final and len(self.timesteps) < 15
        return min(self.solver_order, left) if few else self.solver_order


def _integral(nodes: list[float], k: int, start: float, end: float) -> float:
    """From sigma to sigma, of the polynomial in log(sigma) that is 1 at node k, 0 at the others."""
    others = [*nodes[:k], *nodes[k + 1 :]]
    polynomial = np.poly1d(others, r=True) / math.prod(nodes[k] - other for other in others)

    def antiderivative(sigma: float) -> Any:
        log = math.log(sigma)
        # Of the powers of log(sigma), by parts.
        integrals = [1.0, log - 1, log * log - 2 * log + 2]
        return sigma * sum(c * of for c, of in zip(polynomial.c[::-1], integrals, strict=False))

    return float(antiderivative(end) - antiderivative(start))
