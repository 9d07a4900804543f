"""What every solver shares: the steps of a run, and where the run is among them.

A model was trained on samples between a picture and noise: by betas (`trained`), where a whole
timestep says how much noise there is, or by flow matching (`flow_match_euler`), on the straight
line between the two. Solvers either look the noise up at a timestep, or walk down a `ladder` of
sigmas.

The denoising loop is the same for all of them:

    scheduler.set_timesteps(20)
    x = noise * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        m = model(scheduler.scale_model_input(x, t), t)
        x = scheduler.step(m, t, x, draw(x.shape) if scheduler.needs_noise(t) else None)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..errors import SchedulerError, shown
from .arrays import Array

Choices = Mapping[str, tuple[object, ...]]
Synonyms = Mapping[str, Mapping[str, str]]


@dataclass(kw_only=True, eq=False)
class Scheduler(ABC):
    """A solver of the reverse diffusion; one object serves one run at a time.

    The fields are the options of diffusers' scheduler_config.json, with diffusers' defaults.
    Arrays are float32 of any one shape, (B, C, H, W) for pictures; none is ever changed in place.
    """

    num_train_timesteps: int = 1000

    timesteps: npt.NDArray[Any] = field(init=False, repr=False)
    """Set by `set_timesteps`: what the model is shown, in order; int64, or float32 for some."""

    order: ClassVar[int] = 1
    """How many entries of `timesteps` a step takes, but for the first (2 for Heun)."""

    choices: ClassVar[Choices] = {}
    """Values that an option may have; diffusers may know more."""

    lacks: ClassVar[tuple[str, ...]] = ()
    """Fields above that diffusers' class of this solver does not have, and so never reads."""

    refuses: ClassVar[tuple[str, ...]] = ()
    """Options that diffusers' class reads and this one does not: an error when they are on."""

    synonyms: ClassVar[Synonyms] = {}
    """Values of another solver's configuration, and what diffusers takes them for in this one."""

    def __post_init__(self) -> None:
        self.timesteps = np.empty(0, np.int64)
        self._begin: int | None = None
        self._now: int | None = None

    @property
    def init_noise_sigma(self) -> float:
        """The deviation of the sample that a run starts from; ask after `set_timesteps`."""
        return 1.0

    @abstractmethod
    def set_timesteps(self, num_inference_steps: int) -> None:
        """Begin a run: fills `timesteps`, forgets everything of the run before.

        Raises SchedulerError unless 1 <= `num_inference_steps` <= num_train_timesteps, and for
        counts that this solver or this configuration cannot do.
        """

    def take_timesteps(self, timesteps: Sequence[int]) -> None:
        """Begin a run at just these timesteps, as `set_timesteps` does at those it chooses.

        Raises SchedulerError where they are none to walk down, or this solver walks down its own.
        """
        raise SchedulerError(
            f"{type(self).__name__} makes its timesteps itself; lcm and tcd take them as given"
        )

    @abstractmethod
    def step(
        self, model_output: Array, t: float, sample: Array, noise: Array | None = None
    ) -> Array:
        """The sample after timestep `t`, of the same shape, from what the model said there.

        Call it once for each of `timesteps`, in order. `noise` is standard normal, of the
        sample's shape; it is used exactly where `needs_noise(t)` is true.
        Raises SchedulerError when `t` is not in `timesteps` or needed noise is missing.
        """

    @abstractmethod
    def pred_original_sample(self, model_output: Array, t: float, sample: Array) -> Array:
        """x_0 as the model sees it at `t`, where a run is and before its `step`; for previews."""

    @abstractmethod
    def add_noise(self, original: Array, noise: Array, t: float) -> Array:
        """`original` with as much `noise` as a sample has at timestep `t`: where img2img starts."""

    def needs_noise(self, t: float) -> bool:
        """Whether `step` at `t` wants noise: true exactly where diffusers draws some."""
        return False

    def scale_model_input(self, sample: Array, t: float) -> Array:
        """What the model is to be shown for `sample` at `t`."""
        return sample

    def set_begin_index(self, index: int) -> None:
        """Start the run at `timesteps[index]`, as img2img does.

        Without it the place is looked up at the first `t` that arrives.
        """
        self._begin = index

    def first_step(self, num_inference_steps: int, strength: float) -> int:
        """Where image to image of a strength, above 0 to 1, begins: an index in `timesteps`.

        That share of the steps is taken, the last ones; `set_begin_index` begins there. As in
        diffusers' pipelines of models trained by betas.
        """
        return (num_inference_steps - int(num_inference_steps * strength)) * self.order

    def _start(self, num_inference_steps: int) -> int:
        """Validates the count and forgets the run before."""
        n, most = num_inference_steps, self.num_train_timesteps
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or not 1 <= n <= most:
            raise SchedulerError(f"{n!r} inference steps: give a whole number from 1 to {most}")
        self._begin = self._now = None
        return int(n)

    def _falling_timesteps(self, timesteps: Sequence[int]) -> npt.NDArray[np.int64]:
        """Timesteps given by a caller, if they are ones: whole, falling, below the last trained."""
        last = self.num_train_timesteps
        falling = all(a > b for a, b in pairwise(timesteps))
        if not timesteps or not falling or not 0 <= min(timesteps) <= max(timesteps) < last:
            raise SchedulerError(
                f"timesteps are {shown(list(timesteps))}; give whole numbers that fall, from at "
                f"most {last - 1} to 0 or more"
            )
        return np.array(timesteps, np.int64)

    def _find(self, t: float) -> int:
        """Where `t` stands in `timesteps`; of two equal ones the second, as in diffusers.

        There the rule keeps a run that starts in the middle from skipping a sigma.
        """
        found = np.flatnonzero(self.timesteps == t)
        if not len(found):
            raise SchedulerError(
                f"timestep {t} is not on the schedule: call set_timesteps, then pass its timesteps"
            )
        return int(found[1 if len(found) > 1 else 0])

    def _index(self, t: float) -> int:
        """The place of this step; looked up once, then counted."""
        if self._now is None:
            if self._begin is not None:
                self._now = self._begin
            else:
                # A first timestep that comes twice is the first: diffusers would skip it, and
                # then run out of sigmas.
                self._now = 0 if t in self.timesteps[:1] else self._find(t)
        if self._now >= len(self.timesteps):
            raise SchedulerError(
                f"the run of {len(self.timesteps)} timesteps is over: call set_timesteps first"
            )
        return self._now

    def _drawn(self, noise: Array | None, t: float) -> Array:
        if noise is None:
            raise SchedulerError(f"the step at timestep {t} needs noise: pass noise=")
        return noise
