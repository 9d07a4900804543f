"""What the VAE encoder says of a picture: a Gaussian over its latents [Kingma & Welling 2014]."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..model.latent_space import LatentSpace
from .noise import TorchNoise

Array: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Posterior:
    """mean and deviation, each (1, channels, rows, columns), as the encoder has them.

    deviation None: an older export, whose graph draws the sample itself.
    """

    mean: Array
    deviation: Array | None
    space: LatentSpace

    @classmethod
    def of(cls, encoded: Array, space: LatentSpace) -> "Posterior":
        """From the encoder's output: mean and log variance side by side, or the sample alone."""
        mean, log_variance = encoded[:, : space.channels], encoded[:, space.channels :]
        if not log_variance.size:
            return cls(mean, None, space)
        return cls(mean, np.exp(0.5 * np.clip(log_variance, -30, 20)), space)

    def sample(self, noise: TorchNoise) -> Array:
        if self.deviation is None:
            return self.mean
        return self.mean + self.deviation * noise.normal(self.mean.shape)

    def latents(self, noise: TorchNoise) -> Array:
        """A sample as the denoiser knows it."""
        return self.space.from_encoder(self.sample(noise))
