"""What the solvers share that walk down a ladder of sigmas instead of looking them up at t.

The noise of the rungs is that of the trained betas (`trained_ladder`) or of a flow
(`flow_match_euler`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ..errors import SchedulerError
from . import sigmas
from .arrays import Array
from .scheduler import Scheduler


@dataclass(kw_only=True, eq=False)
class LadderScheduler(Scheduler):
    """Options that space the ladder anew, and the place on it."""

    use_karras_sigmas: bool = False
    use_exponential_sigmas: bool = False

    sigmas: Array = field(init=False, repr=False)
    """The rungs, float32, falling: one for each timestep, and the last, where the run ends."""

    refuses: ClassVar[tuple[str, ...]] = ("use_beta_sigmas",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.use_karras_sigmas and self.use_exponential_sigmas:
            raise SchedulerError("use_karras_sigmas and use_exponential_sigmas exclude each other")

    @property
    def _respaced(self) -> bool:
        return self.use_karras_sigmas or self.use_exponential_sigmas

    def _respace(self, falling: Array, n: int) -> Array:
        """`n` sigmas between the ends of `falling`, Karras or exponential."""
        low, high = self._ends(falling)
        space = sigmas.karras if self.use_karras_sigmas else sigmas.exponential
        return space(low, high, n)

    def _ends(self, falling: Array) -> tuple[float, float]:
        """The lowest and the highest sigma of a ladder that is spaced anew."""
        return float(falling[-1]), float(falling[0])

    def _falling(self, ladder: Array) -> Array:
        """The ladder in float32; the last two rungs may be level, there the run has ended."""
        rungs = ladder.astype(np.float32)
        if np.any(np.diff(rungs[:-1]) >= 0):
            raise SchedulerError(
                f"{len(rungs) - 1} inference steps: some get the same sigma, or a higher one than "
                "the step before; use fewer steps, and check the options that set the sigmas"
            )
        return rungs

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
