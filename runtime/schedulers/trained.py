"""Noise by betas: what the solvers share whose models were trained with a noise schedule.

[Ho et al. 2020, DDPM]. A sample is x = sqrt(alpha_bar) * x_0 + sqrt(1 - alpha_bar) * eps, where
alpha_bar falls with the timestep, as the product of 1 - beta.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from ..errors import SchedulerError
from . import betas, prediction, spacing
from .arrays import Array
from .prediction import PREDICTIONS
from .scheduler import Choices, Scheduler


@dataclass(kw_only=True, eq=False)
class TrainedScheduler(Scheduler):
    """The options that say what the model was trained on, and noise looked up at a timestep."""

    beta_start: float = 0.0001
    beta_end: float = 0.02
    beta_schedule: str = "linear"
    trained_betas: Sequence[float] | None = None
    prediction_type: str = "epsilon"
    timestep_spacing: str = "leading"
    steps_offset: int = 0
    rescale_betas_zero_snr: bool = False

    choices: ClassVar[Choices] = {
        "beta_schedule": betas.SCHEDULES,
        "prediction_type": PREDICTIONS,
        "timestep_spacing": spacing.SPACINGS,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        self.alphas_cumprod = self._trained_noise()

    def pred_original_sample(self, model_output: Array, t: float, sample: Array) -> Array:
        alpha, sigma = self._alpha_sigma(self._alpha_bar(t))
        with np.errstate(divide="ignore", invalid="ignore"):  # alpha may be 0 at the first step
            return prediction.clean(self.prediction_type, model_output, sample, alpha, sigma)

    def add_noise(self, original: Array, noise: Array, t: float) -> Array:
        alpha, sigma = self._alpha_sigma(self._alpha_bar(t))
        return alpha * original + sigma * noise

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

    def _spaced(self, n: int) -> npt.NDArray[np.int64]:
        """Whole timesteps for solvers that look their noise level up at t."""
        rounded = spacing.closed(
            self.timestep_spacing, n, self.num_train_timesteps, self.steps_offset
        ).round()
        steps: npt.NDArray[np.int64] = rounded.astype(np.int64)
        if steps[0] >= self.num_train_timesteps:
            raise SchedulerError(
                f"{n} steps with steps_offset {self.steps_offset} pass the last training timestep "
                f"({self.num_train_timesteps - 1}): use fewer steps"
            )
        return steps

    def _alpha_bar(self, t: float) -> float:
        return float(self.alphas_cumprod[int(t)])

    @staticmethod
    def _alpha_sigma(alpha_bar: float) -> tuple[float, float]:
        return sqrt(alpha_bar), sqrt(1 - alpha_bar)
