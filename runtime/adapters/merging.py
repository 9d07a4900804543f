"""What a low-rank layer adds to its weight: LoRA, LoHa, LoKr, of matrices and convolutions.

Notation: W is (out, in) or (out, in, height, width), r the rank. The sum is
W + weight * scale * delta, scale being alpha / r, or alpha / sqrt(r) for rank-stabilised LoRA.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import AdapterError

Array = NDArray[np.float32]
Factors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Layer:
    """One weight's factors, as a file has them.

    key: the file's own name for it, for messages.
    alpha: None is the rank, which makes the scale 1.
    rank: where the factors do not tell it; None then leaves the scale at 1.
    rank_stabilised: Kalajdzievski 2023: the scale falls with the root of the rank.
    """

    key: str
    factors: Factors
    alpha: float | None = None
    rank: int | None = None
    rank_stabilised: bool = False

    @property
    def in_features(self) -> int | None:
        """What the layer reads, where it is plain LoRA or LoHa for a linear layer."""
        inner = self.factors.get("down", self.factors.get("hada_w1_b"))
        return inner.shape[1] if inner is not None and inner.ndim == 2 else None

    @property
    def scale(self) -> float:
        rank = _rank(self.factors) or self.rank
        if self.alpha is None or rank is None:
            return 1.0
        return float(self.alpha / (rank**0.5 if self.rank_stabilised else rank))

    def delta(self, shape: tuple[int, ...]) -> Array:
        """scale * delta in the shape of the weight; AdapterError where it has another size."""
        factors = {role: factor.astype(np.float32) for role, factor in self.factors.items()}
        try:
            delta = _BUILD[frozenset(factors)](factors)
        except ValueError as error:
            raise AdapterError(f"{self.key}: its factors do not fit each other: {error}") from error
        if delta.size != np.prod(shape):
            raise AdapterError(f"{self.key}: is {delta.shape}, the model's weight {shape}")
        # A 1x1 convolution and a linear layer are the same numbers: tools mix them freely.
        scaled: Array = delta.reshape(shape) * np.float32(self.scale)
        return scaled


def complete(factors: Factors) -> bool:
    """Whether these factors make a layer."""
    return frozenset(factors) in _BUILD


def _rank(factors: Factors) -> int | None:
    for inner in ("down", "hada_w1_b", "lokr_w1_b", "lokr_w2_b"):
        if inner in factors:
            return int(factors[inner].shape[0])
    return None


def _lora(f: Mapping[str, Array]) -> Array:
    """Hu et al. 2021: B A. With a core between them, a convolution's Tucker decomposition."""
    up, down = _matrix(f["up"]), f["down"]
    if "mid" in f:
        return _tucker(f["mid"], up.T, _matrix(down))
    return (up @ _matrix(down)).reshape(len(up), *down.shape[1:])


def _loha(f: Mapping[str, Array]) -> Array:
    """Hyeon-Woo et al. 2022 (FedPara): the Hadamard product of two low-rank matrices."""
    if "hada_t1" in f:
        first = _tucker(f["hada_t1"], f["hada_w1_a"], f["hada_w1_b"])
        return first * _tucker(f["hada_t2"], f["hada_w2_a"], f["hada_w2_b"])
    return (f["hada_w1_a"] @ f["hada_w1_b"]) * (f["hada_w2_a"] @ f["hada_w2_b"])


def _lokr(f: Mapping[str, Array]) -> Array:
    """Edalati et al. 2022 (KronA): the Kronecker product of two matrices, whole or low-rank."""
    left = f["lokr_w1"] if "lokr_w1" in f else f["lokr_w1_a"] @ f["lokr_w1_b"]
    if "lokr_w2" in f:
        right = f["lokr_w2"]
    elif "lokr_t2" in f:
        right = _tucker(f["lokr_t2"], f["lokr_w2_a"], f["lokr_w2_b"])
    else:
        right = f["lokr_w2_a"] @ f["lokr_w2_b"]
    return np.kron(left.reshape(*left.shape, *[1] * (right.ndim - left.ndim)), right)


def _tucker(core: Array, outer: Array, inner: Array) -> Array:
    """core (r, r, height, width) between outer (r, out) and inner (r, in)."""
    wide = np.tensordot(core, inner, axes=(1, 0))  # (r, height, width, in)
    return np.ascontiguousarray(np.tensordot(outer, wide, axes=(0, 0)).transpose(0, 3, 1, 2))


def _matrix(factor: Array) -> Array:
    return factor.reshape(len(factor), -1)


def _roles(*names: str) -> frozenset[str]:
    return frozenset(names)


_HADA = _roles("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
_LEFT = (_roles("lokr_w1"), _roles("lokr_w1_a", "lokr_w1_b"))
_RIGHT = (
    _roles("lokr_w2"),
    _roles("lokr_w2_a", "lokr_w2_b"),
    _roles("lokr_w2_a", "lokr_w2_b", "lokr_t2"),
)

# The factors that make a layer, and how.
_BUILD: dict[frozenset[str], Callable[[Mapping[str, Array]], Array]] = {
    _roles("down", "up"): _lora,
    _roles("down", "mid", "up"): _lora,
    _HADA: _loha,
    _HADA | _roles("hada_t1", "hada_t2"): _loha,
    **{left | right: _lokr for left in _LEFT for right in _RIGHT},
}
