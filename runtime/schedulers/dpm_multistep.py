"""DPM-Solver++ multistep for models trained by betas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .arrays import Array
from .multistep import Multistep
from .preserving import PreservingScheduler, alpha_sigma
from .scheduler import Choices


@dataclass(kw_only=True, eq=False)
class DPMMultistep(Multistep, PreservingScheduler):
    """On samples of unit variance."""

    variance_type: str | None = None

    choices: ClassVar[Choices] = {
        **PreservingScheduler.choices,
        **Multistep.choices,
        "variance_type": (None, "fixed_small", "fixed_small_log", "fixed_large"),
    }
    lacks: ClassVar[tuple[str, ...]] = ("sigma_min", "sigma_max")
    refuses: ClassVar[tuple[str, ...]] = (*PreservingScheduler.refuses, "use_lu_lambdas")

    def _rounds_timesteps(self) -> bool:
        return self.use_karras_sigmas and self.beta_schedule != "squaredcos_cap_v2"

    def _clean(self, m: Array, x: Array, i: int) -> Array:
        return PreservingScheduler._clean(self, m, x, i)

    def _alpha(self, sigma: float) -> float:
        return alpha_sigma(sigma)[0]
