"""LCM: multistep sampling of latent consistency models [Luo et al. 2023]."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

from ..errors import SchedulerError
from .arrays import Array
from .clipping import ClippingScheduler

SIGMA_DATA = 0.5


@dataclass(kw_only=True, eq=False)
class LCM(ClippingScheduler):
    """Jumps to x_0 at every step and, but for the last, noises it again to the next timestep.

    Its timesteps are taken from the `original_inference_steps` that the model was distilled on;
    timestep_spacing and steps_offset have no say in them.
    """

    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: str = "scaled_linear"
    original_inference_steps: int = 50
    clip_sample: bool = False
    timestep_scaling: float = 10.0

    def set_timesteps(self, num_inference_steps: int, strength: float = 1.0) -> None:
        """`strength`, above 0 to 1: only the last share of the distilled timesteps is drawn from.

        So image to image takes all its steps, near the end, as diffusers' LCM pipeline does.
        """
        n, original = self._start(num_inference_steps), self.original_inference_steps
        if not n <= original <= self.num_train_timesteps:
            raise SchedulerError(
                f"{n} inference steps: LCM takes at most original_inference_steps ({original}), "
                f"and those at most num_train_timesteps ({self.num_train_timesteps})"
            )
        left = int(original * strength)
        if n > left:
            raise SchedulerError(
                f"{n} inference steps: a strength of {strength:g} leaves LCM {left} of its "
                f"{original} timesteps; use fewer steps, or more strength"
            )
        stride = self.num_train_timesteps // original
        distilled = np.arange(left, 0, -1) * stride - 1
        chosen = np.floor(np.linspace(0, left, n, endpoint=False)).astype(np.int64)
        self.timesteps = distilled[chosen].astype(np.int64)
        self._check_start()

    def needs_noise(self, t: float) -> bool:
        return self._index(t) + 1 < len(self.timesteps)

    def step(
        self, model_output: Array, t: float, sample: Array, noise: Array | None = None
    ) -> Array:
        i, noisy = self._index(t), self.needs_noise(t)
        self._now = i + 1
        x_0 = self._clean(model_output, sample, self._alpha_bar(t))
        # The boundary condition of a consistency function: f(x, 0) = x.
        scaled = int(t) * self.timestep_scaling
        norm = scaled**2 + SIGMA_DATA**2
        x_0 = (scaled / sqrt(norm)) * x_0 + (SIGMA_DATA**2 / norm) * sample
        if not noisy:
            return x_0
        alpha, sigma = self._alpha_sigma(self._alpha_bar(self.timesteps[i + 1]))
        return alpha * x_0 + sigma * self._drawn(noise, t)
