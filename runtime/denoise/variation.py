"""Variations of a picture: its start noise, turned some way towards that of another seed."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .noise import TorchNoise

Array: TypeAlias = NDArray[np.float32]

# webui's bound, above which the two are as good as one and the angle between them none.
_PARALLEL = 0.9995


@dataclass(frozen=True)
class Variation:
    """strength 0 is the noise itself, 1 that of `seed`."""

    seed: int
    strength: float

    def of(self, noise: Array) -> Array:
        """Normal noise again, float32 of the same shape (1, channels, rows, columns)."""
        return slerp(self.strength, noise, TorchNoise(self.seed).normal(noise.shape))


def slerp(share: float, low: Array, high: Array) -> Array:
    """Spherical interpolation [Shoemake 1985], column by column of each channel, as webui does it.

    A straight line between two noises would pass through weaker noise.
    """
    cosine = (_unit(low) * _unit(high)).sum(axis=2, keepdims=True)
    if cosine.mean() > _PARALLEL:
        straight: Array = low + share * (high - low)
        return straight
    angle = np.arccos(np.clip(cosine, -1, 1))
    sine = np.maximum(np.sin(angle), np.float32(1e-6))
    mixed: Array = (np.sin((1 - share) * angle) / sine) * low + (
        np.sin(share * angle) / sine
    ) * high
    return mixed


def _unit(columns: Array) -> Array:
    length: Array = np.linalg.norm(columns, axis=2, keepdims=True)
    return columns / length
