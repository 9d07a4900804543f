"""A part of the way from noise to picture: what one model has begun, another goes on with.

So Stable Diffusion XL's base and refiner share a picture [Podell et al. 2023, sec. 2.5; Balaji et
al. 2022, eDiff-I].
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import Message, SettingError
from ..schedulers import Scheduler
from .start import Draws, Start

Array: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Span:
    """Shares of the training's timesteps: 0 is pure noise, 1 the picture."""

    start: float = 0.0
    end: float = 1.0

    @classmethod
    def of(cls, start: float | None, end: float | None, *, latents: bool, image: bool) -> "Span":
        """Raises SettingError; `latents`, `image`: whether the call has any."""
        if start is None and end is None:
            return cls()
        if image:
            raise SettingError(
                Message("{denoising_start} and {denoising_end} go with {latents}, not with {image}")
            )
        if start is not None and not latents:
            raise SettingError("denoising_start goes on with latents that were begun; give latents")
        for name, value in (("denoising_start", start), ("denoising_end", end)):
            if value is not None and not 0 < value < 1:
                raise SettingError(f"{name} is {value:g}; give more than 0 and less than 1")
        span = cls(start or 0.0, end or 1.0)
        if span.start >= span.end:
            raise SettingError(f"denoising_start is {start}; give less than denoising_end, {end}")
        return span

    def timesteps(self, scheduler: Scheduler) -> range:
        """Which of the scheduler's timesteps are in it; SettingError where none are."""
        timesteps, total = scheduler.timesteps, len(scheduler.timesteps)
        first, last = 0, total
        if self.start > 0:
            left = int((timesteps < self._timestep(self.start, scheduler)).sum())
            # A solver that looks at each timestep twice must not be cut between the two.
            left += scheduler.order == 2 and left % 2 == 0
            first = total - left
        if self.end < 1:
            last = int((timesteps >= self._timestep(self.end, scheduler)).sum())
        if first >= last:
            raise SettingError(
                f"from {self.start:g} to {self.end:g} there is none of these {total} timesteps; "
                "give more steps, or a wider span"
            )
        return range(first, last)

    @staticmethod
    def _timestep(share: float, scheduler: Scheduler) -> int:
        total = scheduler.num_train_timesteps
        return round(total - share * total)


@dataclass(frozen=True)
class Continued:
    """Latents as a run that ended there has left them; no noise is added."""

    span: Span

    def begin(self, scheduler: Scheduler, draws: Draws) -> Start:
        assert draws.given is not None  # checked with the span
        first = self.span.timesteps(scheduler).start
        scheduler.set_begin_index(first)
        return Start(draws.given, first)
