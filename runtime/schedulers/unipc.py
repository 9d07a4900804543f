"""UniPC: a unified predictor-corrector for diffusion models [Zhao et al. 2023]."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import SchedulerError
from .arrays import Array
from .preserving import PreservingScheduler, alpha_sigma, half_log_snr
from .scheduler import Choices, Synonyms


@dataclass(kw_only=True, eq=False)
class UniPC(PreservingScheduler):
    """Each model output first corrects the sample it was asked about, then predicts the next."""

    solver_type: str = "bh2"
    predict_x0: bool = True
    disable_corrector: Sequence[int] = ()

    choices: ClassVar[Choices] = {
        **PreservingScheduler.choices,
        "solver_type": ("bh1", "bh2"),
        "predict_x0": (True,),
    }
    lacks: ClassVar[tuple[str, ...]] = ("lambda_min_clipped",)
    refuses: ClassVar[tuple[str, ...]] = (
        *PreservingScheduler.refuses,
        "solver_p",
        "shift_terminal",
    )
    synonyms: ClassVar[Synonyms] = {
        "solver_type": {"midpoint": "bh2", "heun": "bh2", "logrho": "bh2"}
    }

    def set_timesteps(self, num_inference_steps: int) -> None:
        super().set_timesteps(num_inference_steps)
        order = min(self.solver_order, num_inference_steps)
        if self.sigmas[-1] == 0 and order > 1 and not self.lower_order_final:
            raise SchedulerError(
                "UniPC cannot end above order 1 where no noise is left: set lower_order_final, "
                "or final_sigmas_type sigma_min"
            )
        self._order = 0
        self._corrected: Array | None = None

    def _last_sigma(self, rungs: Array) -> float:
        if self._respaced and self.final_sigmas_type == "sigma_min":
            return float(rungs[-1])
        return super()._last_sigma(rungs)

    def step(
        self, model_output: Array, t: float, sample: Array, noise: Array | None = None
    ) -> Array:
        i = self._index(t)
        self._now = i + 1
        x_0 = self._clean(model_output, sample, i)
        if self._corrected is not None and i - 1 not in self.disable_corrector:
            sample = self._update(self._corrected, i - 1, self._order, corrector=[x_0])
        self._corrected = sample
        self._outputs = [x_0, *self._outputs[: self.solver_order - 1]]
        left = len(self.timesteps) - i if self.lower_order_final else self.solver_order
        self._order = min(self.solver_order, left, len(self._outputs))
        return self._update(sample, i, self._order, corrector=[])

    def _update(self, x: Array, i: int, order: int, corrector: list[Array]) -> Array:
        """UniP (eq. 3), or UniC (eq. 9) when the x_0 at rung i + 1 is known: x from i to i + 1."""
        sigma_s, sigma_t = self._step_down(i)
        if sigma_t == sigma_s:
            return x
        h = half_log_snr(sigma_t) - half_log_snr(sigma_s)
        m = self._outputs
        r = [(self._lambda(i - k) - self._lambda(i)) / h for k in range(1, order)]
        differences = [(m[k] - m[0]) / r[k - 1] for k in range(1, order)]
        for x_0 in corrector:
            r.append(1.0)
            differences.append(x_0 - m[0])

        alpha_t = alpha_sigma(sigma_t)[0]
        b = -h if self.solver_type == "bh1" else math.expm1(-h)
        x = (alpha_t * sigma_t / alpha_sigma(sigma_s)[1]) * x - (alpha_t * math.expm1(-h)) * m[0]
        for weight, difference in zip(weights(r, h, b), differences, strict=True):
            x = x - (alpha_t * b * weight) * difference
        return x


def weights(r: list[float], h: float, b: float) -> list[float]:
    """a_p for the nodes `r`: solves R_p(h) a_p = phi_p(h) / B(h), `b` being B(h) (theorem 3.1)."""
    if len(r) < 2:
        return [0.5] * len(r)  # The authors' shortcut, exact as h goes to 0.
    phi, factorial, right = math.expm1(-h) / -h - 1, 1, []
    for k in range(1, len(r) + 1):
        right.append(phi * factorial / b)
        factorial *= k + 1
        phi = phi / -h - 1 / factorial
    rows = np.vander(r, increasing=True).T
    return [float(weight) for weight in np.linalg.solve(rows, np.array(right))]
