"""What every solver shares: diffusers' common options, the training noise, and the place in a run.

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
from math import sqrt
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..errors import SchedulerError
from . import betas, prediction, spacing
from .arrays import Array
from .prediction import PREDICTIONS

Choices = Mapping[str, tuple[object, ...]]
Synonyms = Mapping[str, Mapping[str, str]]


@dataclass(kw_only=True, eq=False)
class Scheduler(ABC):
    """A solver of the reverse diffusion; one object serves one run at a time.

    The fields are the options of diffusers' scheduler_config.json, with diffusers' defaults.
    Arrays are float32 of any one shape, (B, C, H, W) for pictures; none is ever changed in place.
    This class also holds what the solvers have in common that take x = sqrt(alpha_bar) * x_0 +
    sqrt(1 - alpha_bar) * eps and know their noise level from the timestep alone.
    """

    num_train_timesteps: int = 1000
    beta_start: float = 0.0001
    beta_end: float = 0.02
    beta_schedule: str = "linear"
    trained_betas: Sequence[float] | None = None
    prediction_type: str = "epsilon"
    timestep_spacing: str = "leading"
    steps_offset: int = 0
    rescale_betas_zero_snr: bool = False

    timesteps: npt.NDArray[Any] = field(init=False, repr=False)
    """Set by `set_timesteps`: what the model is shown, in order; int64, or float32 for some."""

    order: ClassVar[int] = 1
    """How many entries of `timesteps` a step takes, but for the first (2 for Heun)."""

    choices: ClassVar[Choices] = {
        "beta_schedule": betas.SCHEDULES,
        "prediction_type": PREDICTIONS,
        "timestep_spacing": spacing.SPACINGS,
    }
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
        self.alphas_cumprod = self._trained_noise()

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

    @abstractmethod
    def step(
        self, model_output: Array, t: float, sample: Array, noise: Array | None = None
    ) -> Array:
        """The sample after timestep `t`, of the same shape, from what the model said there.

        Call it once for each of `timesteps`, in order. `noise` is standard normal, of the
        sample's shape; it is used exactly where `needs_noise(t)` is true.
        Raises SchedulerError when `t` is not in `timesteps` or needed noise is missing.
        """

    def pred_original_sample(self, model_output: Array, t: float, sample: Array) -> Array:
        """x_0 as the model sees it at `t`, where a run is and before its `step`; for previews."""
        alpha, sigma = self._alpha_sigma(self._alpha_bar(t))
        with np.errstate(divide="ignore", invalid="ignore"):  # alpha may be 0 at the first step
            return prediction.clean(self.prediction_type, model_output, sample, alpha, sigma)

    def needs_noise(self, t: float) -> bool:
        """Whether `step` at `t` wants noise: true exactly where diffusers draws some."""
        return False

    def scale_model_input(self, sample: Array, t: float) -> Array:
        """What the model is to be shown for `sample` at `t`."""
        return sample

    def add_noise(self, original: Array, noise: Array, t: float) -> Array:
        """`original` with as much `noise` as a sample has at timestep `t`: where img2img starts."""
        alpha, sigma = self._alpha_sigma(self._alpha_bar(t))
        return alpha * original + sigma * noise

    def set_begin_index(self, index: int) -> None:
        """Start the run at `timesteps[index]`, as img2img does.

        Without it the place is looked up at the first `t` that arrives.
        """
        self._begin = index

    def _trained_noise(self) -> Array:
        if self.trained_betas is None:
            trained = betas.scheduled(
                self.beta_schedule, self.beta_start, self.beta_end, self.num_train_timesteps
            )
        else:
            trained = np.asarray(self.trained_betas, np.float32)
        alpha_bar = betas.alphas_cumprod(trained, self.rescale_betas_zero_snr)
        signal = alpha_bar[:-1] if self.rescale_betas_zero_snr else alpha_bar
        falls = np.all(np.diff(alpha_bar, prepend=np.float32(1)) < 0)
        if len(alpha_bar) != self.num_train_timesteps or not falls or not np.all(signal > 0):
            raise SchedulerError(
                f"the betas have to be {self.num_train_timesteps} numbers between 0 and 1 that "
                "leave some signal: check beta_start, beta_end, trained_betas"
            )
        return alpha_bar

    def _start(self, num_inference_steps: int) -> int:
        """Validates the count and forgets the run before."""
        n, most = num_inference_steps, self.num_train_timesteps
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or not 1 <= n <= most:
            raise SchedulerError(f"{n!r} inference steps: give a whole number from 1 to {most}")
        self._begin = self._now = None
        return int(n)

    def _spaced(self, n: int) -> npt.NDArray[np.int64]:
        """Whole timesteps for solvers that look their noise level up at t."""
        whole = spacing.closed(
            self.timestep_spacing, n, self.num_train_timesteps, self.steps_offset
        ).round()
        steps: npt.NDArray[np.int64] = whole.astype(np.int64)
        if steps[0] >= self.num_train_timesteps:
            raise SchedulerError(
                f"{n} steps with steps_offset {self.steps_offset} pass the last training timestep "
                f"({self.num_train_timesteps - 1}): use fewer steps"
            )
        return steps

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

    def _alpha_bar(self, t: float) -> float:
        return float(self.alphas_cumprod[int(t)])

    @staticmethod
    def _alpha_sigma(alpha_bar: float) -> tuple[float, float]:
        return sqrt(alpha_bar), sqrt(1 - alpha_bar)

    def _drawn(self, noise: Array | None, t: float) -> Array:
        if noise is None:
            raise SchedulerError(f"the step at timestep {t} needs noise: pass noise=")
        return noise
