"""DPM-Solver++ multistep for EDM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .arrays import Array
from .edm import EdmScheduler
from .multistep import Multistep
from .scheduler import Choices


@dataclass(kw_only=True, eq=False)
class EdmDPMMultistep(Multistep, EdmScheduler):
    """On samples as wide as their noise."""

    choices: ClassVar[Choices] = {**EdmScheduler.choices, **Multistep.choices}
    refuses: ClassVar[tuple[str, ...]] = (*EdmScheduler.refuses, "thresholding")

    def set_timesteps(self, num_inference_steps: int) -> None:
        super().set_timesteps(num_inference_steps)
        self._outputs = []

    def _clean(self, m: Array, x: Array, i: int) -> Array:
        return EdmScheduler._clean(self, m, x, i)

    def _alpha(self, sigma: float) -> float:
        return 1.0
