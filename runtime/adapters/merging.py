"""What a layer of a LoRA file makes of its weight and its bias.

Notation: W is (out, in) or (out, in, height, width), r the rank. At strength s a file makes
W + s difference(W) of it. Of additive kinds the difference is scale * delta, scale being alpha / r,
or alpha / sqrt(r) for rank-stabilised LoRA; DoRA renormalizes W + scale * delta.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .kinds import Array, Kind, Shape

_EPSILON = np.finfo(np.float32).eps


@dataclass(frozen=True)
class Layer:
    """One weight's factors, as a file has them.

    scale: of the difference that the factors make.
    magnitude: DoRA's lengths (Liu et al. 2024) of the weight's rows or columns.
    by_rows: whether they are PEFT's, always of rows; of others their shape tells.
    keys: the file's own names for it, for messages.
    """

    kind: Kind
    factors: Mapping[str, NDArray[Any]]
    scale: float = 1.0
    magnitude: NDArray[Any] | None = None
    by_rows: bool = False
    keys: tuple[str, ...] = ()

    @property
    def in_features(self) -> int | None:
        """What a linear layer reads, where its kind tells it."""
        try:
            return None if self.kind.size is None else self.kind.size(self.factors)[1]
        except ValueError:
            return None

    def mismatch(self, shape: Shape) -> str:
        """Why it cannot change a weight of this shape; "" where it can. Nothing is multiplied."""
        try:
            if not self.kind.fits(self.factors, shape):
                return f"{_shapes(self.factors)} does not make the model's {shape}"
        except ValueError as error:
            return f"factors do not fit each other: {error}"
        if self.magnitude is not None and self._axis(shape) is None:
            return f"a magnitude of {self.magnitude.shape} for the model's {shape}"
        return ""

    def difference(self, weight: Array) -> Array:
        """What it adds at full strength to a weight that `mismatch` has nothing against."""
        factors = {role: one.astype(np.float32) for role, one in self.factors.items()}
        difference = self.kind.difference(factors, weight, self.scale)
        if self.magnitude is None:
            return difference
        return self._renormalized(weight + difference, self.magnitude) - weight

    def _renormalized(self, weight: Array, magnitude: NDArray[Any]) -> Array:
        """As LyCORIS and PEFT do: the changed weight's rows or columns are given these lengths."""
        axis = self._axis(weight.shape)
        others = tuple(i for i in range(weight.ndim) if i != axis)
        lengths = np.sqrt(np.square(weight).sum(others, keepdims=True)) + _EPSILON
        renormalized: Array = weight * (
            magnitude.astype(np.float32).reshape(lengths.shape) / lengths
        )
        return renormalized

    def _axis(self, shape: Shape) -> int | None:
        """Whose lengths the magnitude has: 0 rows, which LyCORIS calls wd_on_output; 1 columns."""
        given = np.empty(0) if self.magnitude is None else self.magnitude
        axes = [0] if self.by_rows else [0, 1]
        if not self.by_rows and given.ndim > 1:
            axes = [axis for axis in axes if given.shape[axis] == given.size]
        return next((axis for axis in axes if shape[axis : axis + 1] == (given.size,)), None)


def _shapes(factors: Mapping[str, NDArray[Any]]) -> str:
    return " with ".join(str(one.shape) for one in factors.values())


@dataclass(frozen=True)
class Bias:
    """What a file adds to a layer's bias at full strength; it may have none."""

    key: str
    vector: NDArray[Any]
    scale: float = 1.0

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.key,)

    def mismatch(self, shape: Shape) -> str:
        """As of a layer, of the weight beside it."""
        if self.vector.size != shape[0]:
            return f"{self.vector.shape} does not fit the model's {shape[:1]}"
        return ""

    def difference(self, bias: Array) -> Array:
        vector = self.vector.reshape(bias.shape)
        return np.asarray(vector * np.float32(self.scale), np.float32)
