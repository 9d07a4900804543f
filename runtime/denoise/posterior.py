"""What the VAE encoder says of a picture: a Gaussian over its latents [Kingma & Welling 2014]."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .noise import TorchNoise

Array: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Posterior:
    """mean and deviation, each (1, channels, rows, columns), as the encoder has them.

    deviation None: an older export, whose graph draws the sample itself.
    scaling: what latents are the encoder's output times.
    """

    mean: Array
    deviation: Array | None
    scaling: float = 1.0

    @classmethod
    def of(cls, encoded: Array, channels: int, scaling: float = 1.0) -> "Posterior":
        """From the encoder's output: mean and log variance side by side, or the sample alone."""
        mean, log_variance = encoded[:, :channels], encoded[:, channels:]
        if not log_variance.size:
            return cls(mean, None, scaling)
        return cls(mean, np.exp(0.5 * np.clip(log_variance, -30, 20)), scaling)

    def sample(self, noise: TorchNoise) -> Array:
        if self.deviation is None:
            return self.mean
        return self.mean + self.deviation * noise.normal(self.mean.shape)

    def latents(self, noise: TorchNoise) -> Array:
        """A sample as the UNet knows it."""
        scaled: Array = self.sample(noise) * np.float32(self.scaling)
        return scaled
