"""What the VAE encoder says of a picture: a Gaussian over its latents [Kingma & Welling 2014]."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .noise import TorchNoise

Array: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Posterior:
    """mean and deviation, each (1, channels, rows, columns), as latents are before scaling.

    deviation None: an older export, whose graph draws the sample itself.
    """

    mean: Array
    deviation: Array | None

    @classmethod
    def of(cls, encoded: Array, channels: int) -> "Posterior":
        """From the encoder's output: mean and log variance side by side, or the sample alone."""
        mean, log_variance = encoded[:, :channels], encoded[:, channels:]
        if not log_variance.size:
            return cls(mean, None)
        return cls(mean, np.exp(0.5 * np.clip(log_variance, -30, 20)))

    def sample(self, noise: TorchNoise) -> Array:
        if self.deviation is None:
            return self.mean
        return self.mean + self.deviation * noise.normal(self.mean.shape)
