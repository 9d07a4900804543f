"""What DDPM and its nearest kin share: they take x_0 from each step's output and may clip it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import SchedulerError
from . import prediction
from .arrays import Array
from .trained import TrainedScheduler


@dataclass(kw_only=True, eq=False)
class ClippingScheduler(TrainedScheduler):
    """Clipping suits models of pictures, whose values have bounds; latents have none."""

    clip_sample: bool = True
    clip_sample_range: float = 1.0

    refuses: ClassVar[tuple[str, ...]] = ("thresholding",)

    def _clean(self, m: Array, x: Array, a_t: float) -> Array:
        """x_0 where alpha_bar is `a_t`; infinite before it is clipped if that is 0."""
        with np.errstate(divide="ignore"):
            x_0 = prediction.clean(self.prediction_type, m, x, *self._alpha_sigma(a_t))
        if not self.clip_sample:
            return x_0
        return np.clip(x_0, -self.clip_sample_range, self.clip_sample_range)

    def _check_start(self) -> None:
        silent = self.alphas_cumprod[self.timesteps[0]] == 0
        if silent and self.prediction_type == "epsilon" and not self.clip_sample:
            raise SchedulerError(
                "epsilon prediction cannot start from pure noise (rescale_betas_zero_snr): "
                "use timestep_spacing leading, or a v_prediction model"
            )
