"""Guidance: how what the UNet says with and without a condition becomes one prediction."""

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float32]


class Guidance(Protocol):
    """`embeddings` says what the UNet is asked, a batch; `steer` makes one answer of the batch's.

    Embeddings are (1, tokens, width) each, predictions (batch, channels, rows, columns).
    """

    def embeddings(self, prompt: Array, negative: Array) -> Array: ...

    def steer(self, prediction: Array) -> Array: ...


@dataclass(frozen=True)
class ClassifierFree:
    """Away from the negative prompt, towards the prompt [Ho & Salimans 2022, eq. 6]."""

    scale: float

    def embeddings(self, prompt: Array, negative: Array) -> Array:
        return np.concatenate([negative, prompt])

    def steer(self, prediction: Array) -> Array:
        unguided, guided = prediction[:1], prediction[1:]
        steered: Array = unguided + self.scale * (guided - unguided)
        return steered


@dataclass(frozen=True)
class Instructed:
    """Two scales, for the picture and for the instruction [Brooks et al. 2023, eq. 3].

    The batch: with both, with the picture alone, with neither.
    """

    scale: float
    image_scale: float

    def embeddings(self, prompt: Array, negative: Array) -> Array:
        return np.concatenate([prompt, negative, negative])

    def steer(self, prediction: Array) -> Array:
        both, picture, neither = prediction[0:1], prediction[1:2], prediction[2:3]
        steered: Array = neither + self.scale * (both - picture)
        return steered + self.image_scale * (picture - neither)
