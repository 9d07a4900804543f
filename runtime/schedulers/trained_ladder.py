"""A ladder of sigmas from the trained betas, in the units of x = x_0 + sigma * eps.

Two families walk it: `exploding` (k-diffusion's) and `preserving` (the DPM-Solver family).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from . import sigmas
from .arrays import Array
from .ladder import LadderScheduler
from .scheduler import Choices
from .trained import TrainedScheduler


@dataclass(kw_only=True, eq=False)
class TrainedLadderScheduler(LadderScheduler, TrainedScheduler):
    """Options that say between which sigmas the ladder stands, and where it ends."""

    timestep_spacing: str = "linspace"
    sigma_min: float | None = None
    sigma_max: float | None = None
    final_sigmas_type: str = "zero"

    choices: ClassVar[Choices] = {
        **TrainedScheduler.choices,
        "final_sigmas_type": ("zero", "sigma_min"),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        self._table = sigmas.from_alphas(self.alphas_cumprod)
        self.sigmas = np.append(self._table[::-1], np.float32(0))

    def _ends(self, falling: Array) -> tuple[float, float]:
        low, high = super()._ends(falling)
        return (
            low if self.sigma_min is None else self.sigma_min,
            high if self.sigma_max is None else self.sigma_max,
        )

    def _last_sigma(self, rungs: Array) -> float:
        """Where the run ends."""
        return 0.0 if self.final_sigmas_type == "zero" else float(self._table[0])
