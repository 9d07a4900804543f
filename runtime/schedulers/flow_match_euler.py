"""Flow matching by Euler's method [Lipman et al. 2023; Esser et al. 2024, Stable Diffusion 3].

A sample stands on the straight line between a picture and noise, x = (1 - sigma) * x_0 + sigma *
eps, and the model gives the velocity eps - x_0 along it. Its timestep is num_train_timesteps *
sigma, no whole number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import SchedulerError
from .arrays import Array
from .ladder import LadderScheduler
from .scheduler import Choices


@dataclass(kw_only=True, eq=False)
class FlowMatchEuler(LadderScheduler):
    """One straight step along the velocity; `stochastic_sampling` noises x_0 anew instead.

    The sigmas are shifted towards noise, of which larger pictures need more to be hidden: by
    `shift`, or with `use_dynamic_shifting` by a shift that grows with the picture, from
    `base_shift` at `base_image_seq_len` tokens to `max_shift` at `max_image_seq_len`, and beyond.
    `shift_terminal` is then stretched to be the last sigma before 0.
    """

    shift: float = 1.0
    use_dynamic_shifting: bool = False
    base_shift: float = 0.5
    max_shift: float = 1.15
    base_image_seq_len: int = 256
    max_image_seq_len: int = 4096
    shift_terminal: float | None = None
    time_shift_type: str = "exponential"
    stochastic_sampling: bool = False

    choices: ClassVar[Choices] = {"time_shift_type": ("exponential", "linear")}
    refuses: ClassVar[tuple[str, ...]] = (*LadderScheduler.refuses, "invert_sigmas")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.base_image_seq_len >= self.max_image_seq_len:
            raise SchedulerError(
                f"scheduler option base_image_seq_len is {self.base_image_seq_len}: it has to be "
                f"less than max_image_seq_len, {self.max_image_seq_len}"
            )
        self.sigmas = np.zeros(1, np.float32)

    def set_timesteps(self, num_inference_steps: int, image_tokens: int | None = None) -> None:
        """`image_tokens`: how many tokens the transformer makes of the latents, 1 or more.

        Raises SchedulerError where `use_dynamic_shifting` needs it and it is missing.
        """
        n = self._start(num_inference_steps)
        rungs = self._shifted(self._even(n), image_tokens)
        if self.shift_terminal:
            with np.errstate(divide="ignore", invalid="ignore"):  # of one step: refused below
                rungs = 1 - (1 - rungs) / ((1 - rungs[-1]) / (1 - self.shift_terminal))
        if not np.all((rungs > 0) & (rungs <= 1)):
            raise SchedulerError(
                f"{n} inference steps: not all sigmas are above 0 and at most 1; use more steps, "
                "and check shift, base_shift, max_shift and shift_terminal"
            )
        if self._respaced:
            rungs = self._respace(rungs, n)
        self.sigmas = self._falling(np.append(rungs, 0.0))
        self.timesteps = self.sigmas[:-1] * np.float32(self.num_train_timesteps)

    def needs_noise(self, t: float) -> bool:
        return self.stochastic_sampling

    def step(
        self, model_output: Array, t: float, sample: Array, noise: Array | None = None
    ) -> Array:
        i = self._index(t)
        self._now = i + 1
        sigma, sigma_next = self._step_down(i)
        if self.stochastic_sampling:
            x_0 = sample - sigma * model_output
            return (1 - sigma_next) * x_0 + sigma_next * self._drawn(noise, t)
        return sample + (sigma_next - sigma) * model_output

    def pred_original_sample(self, model_output: Array, t: float, sample: Array) -> Array:
        return sample - float(self.sigmas[self._index(t)]) * model_output

    def add_noise(self, original: Array, noise: Array, t: float) -> Array:
        sigma = self._rung(t)
        return sigma * noise + (1 - sigma) * original

    def first_step(self, num_inference_steps: int, strength: float) -> int:
        # Not as by betas: diffusers' flow pipelines round the steps that are left up.
        return int(num_inference_steps - num_inference_steps * strength)

    def _even(self, n: int) -> Array:
        """`n` sigmas, evenly spaced, from the first training timestep's down to the last's.

        diffusers has shifted these ends once already, where the shift is fixed.
        """
        train = self.num_train_timesteps
        ends = np.array([train, 1], np.float32) / np.float32(train)
        if not self.use_dynamic_shifting:
            ends = self.shift * ends / (1 + (self.shift - 1) * ends)
        high, low = (float(end) * train for end in ends)
        return np.linspace(high, low, n) / train

    def _shifted(self, rungs: Array, image_tokens: int | None) -> Array:
        """The sigmas moved towards 1 [Esser et al. 2024, eq. 23]."""
        if not self.use_dynamic_shifting:
            return self.shift * rungs / (1 + (self.shift - 1) * rungs)
        if image_tokens is None or image_tokens < 1:
            raise SchedulerError(
                f"use_dynamic_shifting goes by the picture's size, and image_tokens is "
                f"{image_tokens}: pass image_tokens=, how many tokens the latents are"
            )
        slope = (self.max_shift - self.base_shift) / (
            self.max_image_seq_len - self.base_image_seq_len
        )
        mu = image_tokens * slope + (self.base_shift - slope * self.base_image_seq_len)
        with np.errstate(all="ignore"):  # what comes of a nonsensical shift is refused
            factor = np.exp(mu) if self.time_shift_type == "exponential" else np.float64(mu)
            return np.asarray(factor / (factor + (1 / rungs - 1)))
