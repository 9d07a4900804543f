"""What the solvers share that walk down a ladder of sigmas instead of looking them up at t.

Two families do: `exploding` (k-diffusion's) and `preserving` (the DPM-Solver family).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ..errors import SchedulerError
from . import sigmas
from .arrays import Array
from .scheduler import Choices, Scheduler


@dataclass(kw_only=True, eq=False)
class LadderScheduler(Scheduler):
    """Options that say how the ladder is spaced, and where it ends."""

    timestep_spacing: str = "linspace"
    use_karras_sigmas: bool = False
    use_exponential_sigmas: bool = False
    sigma_min: float | None = None
    sigma_max: float | None = None
    final_sigmas_type: str = "zero"

    sigmas: Array = field(init=False, repr=False)
    """The rungs, float32, falling: one for each timestep, and the last, where the run ends."""

    choices: ClassVar[Choices] = {**Scheduler.choices, "final_sigmas_type": ("zero", "sigma_min")}
    refuses: ClassVar[tuple[str, ...]] = ("use_beta_sigmas",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.use_karras_sigmas and self.use_exponential_sigmas:
            raise SchedulerError("use_karras_sigmas and use_exponential_sigmas exclude each other")
        self._table = sigmas.from_alphas(self.alphas_cumprod)
        self.sigmas = np.append(self._table[::-1], np.float32(0))

    @property
    def _respaced(self) -> bool:
        return self.use_karras_sigmas or self.use_exponential_sigmas

    def _respace(self, falling: Array, n: int) -> Array:
        """`n` sigmas, Karras or exponential, between the ends of `falling` or those set."""
        low = float(falling[-1]) if self.sigma_min is None else self.sigma_min
        high = float(falling[0]) if self.sigma_max is None else self.sigma_max
        space = sigmas.karras if self.use_karras_sigmas else sigmas.exponential
        return space(low, high, n)

    def _falling(self, ladder: Array) -> Array:
        """The ladder in float32; the last two rungs may be level, there the run has ended."""
        rungs = ladder.astype(np.float32)
        if np.any(np.diff(rungs[:-1]) >= 0):
            raise SchedulerError(
                f"{len(rungs) - 1} inference steps: some get the same sigma, or a higher one than "
                "the step before; use fewer steps, and check sigma_min and sigma_max"
            )
        return rungs

    def _last_sigma(self, rungs: Array) -> float:
        """Where the run ends."""
        return 0.0 if self.final_sigmas_type == "zero" else float(self._table[0])

    def _step_down(self, i: int) -> tuple[float, float]:
        """The sigma of step i, and the next."""
        return float(self.sigmas[i]), float(self.sigmas[i + 1])

    def _rung(self, t: float) -> float:
        """The sigma that `add_noise` uses for `t`: where the run is, once it was told to begin."""
        if self._begin is None:
            i = self._find(t)
        else:
            i = self._begin if self._now is None else self._now
        return float(self.sigmas[i])
