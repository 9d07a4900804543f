"""PNDM: pseudo numerical methods for diffusion models on manifolds [Liu et al. 2022]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import SchedulerError
from . import prediction
from .arrays import Array
from .scheduler import Choices
from .trained import TrainedScheduler


@dataclass(kw_only=True, eq=False)
class PNDM(TrainedScheduler):
    """Linear multistep (PLMS), begun by Runge-Kutta or, with `skip_prk_steps`, by Euler and Heun.

    Stable Diffusion skips the Runge-Kutta steps; it then asks the model twice at the second
    timestep. With them the first three steps cost four model calls each.
    """

    skip_prk_steps: bool = False
    set_alpha_to_one: bool = False

    choices: ClassVar[Choices] = {
        **TrainedScheduler.choices,
        "prediction_type": ("epsilon", "v_prediction"),
    }
    lacks: ClassVar[tuple[str, ...]] = ("rescale_betas_zero_snr",)

    def set_timesteps(self, num_inference_steps: int) -> None:
        n = self._start(num_inference_steps)
        steps = self._spaced(n)
        self._stride = self.num_train_timesteps // n
        self._prk: list[int] = []
        if self.skip_prk_steps:
            steps = np.concatenate([steps[:2], steps[1:]])
        else:
            if n < 4:
                raise SchedulerError(
                    f"{n} inference steps: PNDM's Runge-Kutta start needs at least 4; "
                    "or set skip_prk_steps"
                )
            # t, t - 1/2 stride (twice), t - stride: the four stages of three steps.
            half = self._stride // 2
            stages = np.stack([steps[:3], steps[1:4] + half, steps[1:4] + half, steps[1:4]], 1)
            self._prk = stages.ravel().tolist()
            steps = np.concatenate([stages.ravel(), steps[3:]])
        self.timesteps = steps
        self._calls = 0
        self._outputs: list[Array] = []

    def step(
        self, model_output: Array, t: float, sample: Array, noise: Array | None = None
    ) -> Array:
        self._find(t)
        call, now = self._calls, int(t)
        self._calls += 1
        if call < len(self._prk):
            return self._runge_kutta(call, model_output, now, sample)
        return self._multistep(call, model_output, now, sample)

    def _runge_kutta(self, call: int, e: Array, now: int, sample: Array) -> Array:
        """One of four stages (eq. 13); each goes out from the sample of the first."""
        stage = call % 4
        if stage == 0:
            self._outputs.append(e)
            self._mean = np.zeros_like(e)
            self._origin = sample
        self._mean = self._mean + e * (1 / 6, 1 / 3, 1 / 3, 1 / 6)[stage]
        before = now if stage in (1, 3) else now - self._stride // 2
        return self._transfer(
            self._origin, self._prk[call - stage], before, self._mean if stage == 3 else e
        )

    def _multistep(self, call: int, e: Array, now: int, sample: Array) -> Array:
        """Adams-Bashforth on the last four outputs (eq. 12), fewer at the start."""
        start, before = now, now - self._stride
        if call == 1:
            # The second look at the second timestep repeats the first step, as Heun does.
            start, before = now + self._stride, now
            return self._transfer(self._origin, start, before, (e + self._outputs[-1]) / 2)
        self._outputs = [*self._outputs[-3:], e]
        if call == 0:
            self._origin = sample
        return self._transfer(sample, start, before, adams_bashforth(self._outputs))

    def _transfer(self, x: Array, start: int, before: int, e: Array) -> Array:
        """phi, the transfer from timestep `start` to `before` (eq. 9)."""
        # In float32, as in diffusers: near pure noise e and x nearly cancel, and what is left of
        # them depends on the rounding of their weights.
        a_t = np.float32(self._alpha_bar(start))
        a_prev = np.float32(self._alpha_bar(before) if before >= 0 else self._final_alpha_bar())
        alpha, sigma = float(np.sqrt(a_t)), float(np.sqrt(1 - a_t))
        e = prediction.noise(self.prediction_type, e, x, alpha, sigma)
        weight = float(np.sqrt(a_prev / a_t))
        scale = float(a_t * np.sqrt(1 - a_prev) + np.sqrt(a_t * (1 - a_t) * a_prev))
        return weight * x - float(a_prev - a_t) * e / scale

    def _final_alpha_bar(self) -> float:
        return 1.0 if self.set_alpha_to_one else self._alpha_bar(0)


def adams_bashforth(e: list[Array]) -> Array:
    """The extrapolated slope of up to four past ones, the newest last."""
    if len(e) == 1:
        return e[-1]
    if len(e) == 2:
        return (3 * e[-1] - e[-2]) / 2
    if len(e) == 3:
        return (23 * e[-1] - 16 * e[-2] + 5 * e[-3]) / 12
    return (55 * e[-1] - 59 * e[-2] + 37 * e[-3] - 9 * e[-4]) / 24
