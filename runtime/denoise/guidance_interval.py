"""In which steps guidance acts: in an interval of them, and until it no longer changes anything."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingError
from ..speed.profiles import Profile

Array: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class GuidanceInterval:
    """Outside it only what has the prompt is evaluated, and is the prediction.

    start, stop: shares of the evaluations, 0 to 1 [Kynkäänniemi et al. 2024, arXiv 2404.07724].
    similarity: cosine of the predictions with and without the prompt; once they are as close,
        guidance stays off for the rest of the image [Castillo et al. 2023, arXiv 2312.12487,
        who take 0.991]. At 1 that never happens.
    """

    start: float = 0.0
    stop: float = 1.0
    similarity: float = 1.0

    @classmethod
    def checked(cls, profile: Profile) -> "GuidanceInterval | None":
        """None where guidance acts throughout; SettingError names what is out of range."""
        start, stop = profile.guidance_start, profile.guidance_stop
        similarity = profile.guidance_similarity
        if not 0 <= start < stop <= 1:
            raise SettingError(
                f"guidance_start is {start:g} and guidance_stop {stop:g}; "
                "give shares of the steps, 0 <= start < stop <= 1"
            )
        if not 0 < similarity <= 1:
            raise SettingError(
                f"guidance_similarity is {similarity:g}; give more than 0, and at most 1"
            )
        interval = cls(float(start), float(stop), float(similarity))
        return None if interval == cls() else interval

    def holds(self, evaluation: int, total: int) -> bool:
        """Whether it is in the interval, by diffusers' rule (guiders, `_is_cfg_enabled`)."""
        return int(self.start * total) <= evaluation < int(self.stop * total)

    def converged(self, predictions: Array, prompted: int) -> bool:
        """Whether all of a batch, (batch, channels, rows, columns), say what the prompted one does.

        prompted: its number in the batch.
        """
        if self.similarity == 1:
            return False
        flat = predictions.reshape(len(predictions), -1).astype(np.float64)
        lengths = np.linalg.norm(flat, axis=1)
        alike = flat @ flat[prompted] >= self.similarity * lengths * lengths[prompted]
        return bool(alike.all())
