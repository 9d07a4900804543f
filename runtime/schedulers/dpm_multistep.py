"""DPM-Solver++ multistep: 2M and its relatives [Lu et al. 2022, algorithm 2]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .arrays import Array
from .preserving import PreservingScheduler, dpm_update
from .scheduler import Choices, Synonyms


@dataclass(kw_only=True, eq=False)
class DPMMultistep(PreservingScheduler):
    """One model call a step; the derivatives of x_0 come from the steps before."""

    algorithm_type: str = "dpmsolver++"
    solver_type: str = "midpoint"
    euler_at_final: bool = False
    variance_type: str | None = None

    choices: ClassVar[Choices] = {
        **PreservingScheduler.choices,
        "algorithm_type": ("dpmsolver++", "sde-dpmsolver++"),
        "solver_type": ("midpoint", "heun"),
        "variance_type": (None, "fixed_small", "fixed_small_log", "fixed_large"),
    }
    lacks: ClassVar[tuple[str, ...]] = ("sigma_min", "sigma_max")
    refuses: ClassVar[tuple[str, ...]] = (*PreservingScheduler.refuses, "use_lu_lambdas")
    synonyms: ClassVar[Synonyms] = {
        "algorithm_type": {"deis": "dpmsolver++"},
        "solver_type": {"logrho": "midpoint", "bh1": "midpoint", "bh2": "midpoint"},
    }

    def needs_noise(self, t: float) -> bool:
        return self.algorithm_type == "sde-dpmsolver++"

    def _rounds_timesteps(self) -> bool:
        return self.use_karras_sigmas and self.beta_schedule != "squaredcos_cap_v2"

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
        m, lambda_i = self._outputs, self._lambda(i)
        if order == 1:
            return m[:1]
        h, h_0 = self._lambda(i + 1) - lambda_i, lambda_i - self._lambda(i - 1)
        slope = (h / h_0) * (m[0] - m[1])
        if order == 2:
            return [m[0], slope]
        h_1 = self._lambda(i - 1) - self._lambda(i - 2)
        bend = slope - (h / h_1) * (m[1] - m[2])
        return [m[0], slope + (h_0 / (h_0 + h_1)) * bend, (h / (h_0 + h_1)) * bend]
