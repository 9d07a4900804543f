"""What solvers of consistency models share: few timesteps, out of those of the distillation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import SchedulerError
from .clipping import ClippingScheduler


@dataclass(kw_only=True, eq=False)
class ConsistencyScheduler(ClippingScheduler):
    """Its timesteps are taken from the `original_inference_steps` that the model was distilled on;
    timestep_spacing and steps_offset have no say in them.
    """

    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: str = "scaled_linear"
    original_inference_steps: int = 50
    clip_sample: bool = False

    def set_timesteps(self, num_inference_steps: int, strength: float = 1.0) -> None:
        """`strength`, above 0 to 1: only the last share of the distilled timesteps is drawn from.

        So image to image takes all its steps, near the end, as diffusers' LCM pipeline does.
        """
        n, original = self._start(num_inference_steps), self.original_inference_steps
        name = type(self).__name__
        if not n <= original <= self.num_train_timesteps:
            raise SchedulerError(
                f"{n} inference steps: {name} takes at most original_inference_steps ({original}), "
                f"and those at most num_train_timesteps ({self.num_train_timesteps})"
            )
        left = int(original * strength)
        if n > left:
            raise SchedulerError(
                f"{n} inference steps: a strength of {strength:g} leaves {name} {left} of its "
                f"{original} timesteps; use fewer steps, or more strength"
            )
        stride = self.num_train_timesteps // original
        distilled = np.arange(left, 0, -1) * stride - 1
        chosen = np.floor(np.linspace(0, left, n, endpoint=False)).astype(np.int64)
        self.timesteps = distilled[chosen].astype(np.int64)
        self._check_start()

    def take_timesteps(self, timesteps: Sequence[int]) -> None:
        self._start(len(timesteps))
        self.timesteps = self._falling_timesteps(timesteps)
        self._check_start()

    def needs_noise(self, t: float) -> bool:
        return self._index(t) + 1 < len(self.timesteps)
