"""DPM-Solver++ multistep: 2M and its relatives [Lu et al. 2022, algorithm 2]."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

from .arrays import Array
from .ladder import LadderScheduler
from .preserving import dpm_update, half_log_snr
from .scheduler import Choices, Synonyms


@dataclass(kw_only=True, eq=False)
class Multistep(LadderScheduler):
    """One model call a step; the derivatives of x_0 come from the steps before."""

    solver_order: int = 2
    lower_order_final: bool = True
    algorithm_type: str = "dpmsolver++"
    solver_type: str = "midpoint"
    euler_at_final: bool = False
    final_sigmas_type: str = "zero"

    choices: ClassVar[Choices] = {
        "solver_order": (1, 2, 3),
        "algorithm_type": ("dpmsolver++", "sde-dpmsolver++"),
        "solver_type": ("midpoint", "heun"),
    }
    synonyms: ClassVar[Synonyms] = {
        "algorithm_type": {"deis": "dpmsolver++"},
        "solver_type": {"logrho": "midpoint", "bh1": "midpoint", "bh2": "midpoint"},
    }

    _outputs: list[Array] = field(init=False, repr=False)
    """What the model made of the last steps' samples, the last first; emptied by a new run."""

    @abstractmethod
    def _clean(self, m: Array, x: Array, i: int) -> Array:
        """x_0, from what the model said at rung i."""

    @abstractmethod
    def _alpha(self, sigma: float) -> float:
        """How much of x_0 is in a sample at a rung; its noise is sigma times as wide."""

    def needs_noise(self, t: float) -> bool:
        return self.algorithm_type == "sde-dpmsolver++"

    def step(
        self, model_output: Array, t: float, sample: Array, noise: Array | None = None
    ) -> Array:
        i = self._index(t)
        self._now = i + 1
        x_0 = self._clean(model_output, sample, i)
        self._outputs = [x_0, *self._outputs[: self.solver_order - 1]]
        derivatives = self._derivatives(i, min(self._order_allowed(i), len(self._outputs)))
        return dpm_update(
            sample,
            derivatives,
            *self._step_down(i),
            alpha=self._alpha,
            midpoint=self.solver_type == "midpoint" and len(derivatives) == 2,
            noise=self._drawn(noise, t) if self.needs_noise(t) else None,
        )

    def _order_allowed(self, i: int) -> int:
        """Lower at the end, where sigma falls fastest, when the steps are few."""
        left, few = len(self.timesteps) - i, len(self.timesteps) < 15
        careful = self.lower_order_final and few
        if left == 1 and (careful or self.euler_at_final or self.final_sigmas_type == "zero"):
            return 1
        return min(2, self.solver_order) if left == 2 and careful else self.solver_order

    def _derivatives(self, i: int, order: int) -> list[Array]:
        """x_0 and its derivatives by lambda / h at rung i, by backward differences."""
        m = self._outputs
        if order == 1:
            return m[:1]
        h, h_0 = self._span(i), self._span(i - 1)
        slope = (h / h_0) * (m[0] - m[1])
        if order == 2:
            return [m[0], slope]
        h_1 = self._span(i - 2)
        bend = slope - (h / h_1) * (m[1] - m[2])
        return [m[0], slope + (h_0 / (h_0 + h_1)) * bend, (h / (h_0 + h_1)) * bend]

    def _span(self, i: int) -> float:
        """How far step i goes in lambda."""
        sigma, sigma_next = self._step_down(i)
        return half_log_snr(sigma_next) - half_log_snr(sigma)
