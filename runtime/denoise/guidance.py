"""Guidance: how what the UNet says with and without a condition becomes one prediction."""

from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float32]


class Guidance(Protocol):
    """`embeddings` says what the UNet is asked, a batch; `steer` makes one answer of the batch's.

    Embeddings are (1, tokens, width) each, predictions (batch, channels, rows, columns).
    prompted: which of the batch is asked all there is, and is the prediction where nothing guides.
    shown: rows of what the batch sees: 1 where all see the same, and are only told otherwise.
    """

    @property
    def prompted(self) -> int: ...

    @property
    def shown(self) -> int: ...

    def embeddings(self, prompt: Array, negative: Array) -> Array: ...

    def steer(self, prediction: Array) -> Array: ...


@dataclass(frozen=True)
class ClassifierFree:
    """Away from the negative prompt, towards the prompt [Ho & Salimans 2022, eq. 6]."""

    scale: float

    prompted: ClassVar[int] = 1
    shown: ClassVar[int] = 1

    def embeddings(self, prompt: Array, negative: Array) -> Array:
        return np.concatenate([negative, prompt])

    def steer(self, prediction: Array) -> Array:
        unguided, guided = prediction[:1], prediction[1:]
        steered: Array = unguided + self.scale * (guided - unguided)
        return steered


def scale_embedding(scale: float, width: int) -> Array:
    """A guidance scale as a UNet that was distilled with it takes it: float32, (1, width).

    Sines and cosines of 1000 (scale - 1), as for timesteps [Meng et al. 2023; Luo et al. 2023]:
    their w is 0 where Ho & Salimans' scale, which users give, is 1.
    """
    half = width // 2
    step = np.log(np.float32(10000)) / np.float32(half - 1)
    frequencies = np.exp(np.arange(half, dtype=np.float32) * -step)
    angles = np.float32(scale - 1) * np.float32(1000) * frequencies
    waves = np.concatenate([np.sin(angles), np.cos(angles), np.zeros(width % 2, np.float32)])
    return waves[None].astype(np.float32)


@dataclass(frozen=True)
class Instructed:
    """Two scales, for the picture and for the instruction [Brooks et al. 2023, eq. 3].

    The batch: with both, with the picture alone, with neither.
    """

    scale: float
    image_scale: float

    prompted: ClassVar[int] = 0
    shown: ClassVar[int] = 3

    def embeddings(self, prompt: Array, negative: Array) -> Array:
        return np.concatenate([prompt, negative, negative])

    def steer(self, prediction: Array) -> Array:
        both, picture, neither = prediction[0:1], prediction[1:2], prediction[2:3]
        steered: Array = neither + self.scale * (both - picture)
        return steered + self.image_scale * (picture - neither)
