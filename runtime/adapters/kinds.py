"""Kinds of layers in LoRA files: which factors make one, how large it is, what it does to a weight.

A file is anybody's, so the size of what its factors make is computed from their shapes, and
compared with the weight, before anything is multiplied.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import orthogonal, products
from .products import matrix_shape

Array = NDArray[np.float32]
Shape = tuple[int, ...]
Factors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Kind:
    """One kind of layer.

    sets: factors that make a layer; any one of these sets does.
    optional: what may be there besides.
    fits: whether factors, of which only shapes are looked at, can change a weight of this shape;
        ValueError where they do not fit each other.
    difference: what the factors, now in float32, add to a weight that they fit, at this scale.
    rank: what alpha is divided by; None where alpha is no scale, or there is none.
    size: rows and columns of the matrix that is added, of kinds that add one; errors as of `fits`.
    """

    sets: tuple[frozenset[str], ...]
    fits: Callable[[Factors, Shape], bool]
    difference: Callable[[Factors, Array, float], Array]
    rank: Callable[[Factors], int | None] = lambda factors: None
    optional: frozenset[str] = frozenset()
    size: Callable[[Factors], tuple[int, int]] | None = None


def kind_of(roles: frozenset[str]) -> tuple[Kind, frozenset[str]] | None:
    """The first kind that some of these factors make, and which; None where they make none."""
    for kind in KINDS:
        for needed in kind.sets:
            if needed <= roles:
                return kind, needed | (roles & kind.optional)
    return None


def _scaled(difference: Array, scale: float) -> Array:
    return np.asarray(difference * np.float32(scale), np.float32)


def _roles(*names: str) -> frozenset[str]:
    return frozenset(names)


def _additive(
    *sets: frozenset[str],
    size: Callable[[Factors], tuple[int, int]],
    product: Callable[[Factors], Array],
    optional: frozenset[str] = frozenset(),
    rank: str = "",
) -> Kind:
    """A kind that adds a matrix to the weight.

    size: rows and columns of the matrix. rank: the factor whose first axis is the rank.
    """

    def difference(factors: Factors, weight: Array, scale: float) -> Array:
        # A 1x1 convolution and a linear layer are the same numbers: tools mix them freely.
        return _scaled(product(factors).reshape(weight.shape), scale)

    return Kind(
        sets,
        lambda factors, weight: size(factors) == matrix_shape(weight),
        difference,
        lambda factors: products.first_axis(factors, rank) if rank else None,
        optional,
        size,
    )


def _whole(role: str) -> Kind:
    """A difference in the weight's own shape."""
    return _additive(
        _roles(role), size=lambda f: matrix_shape(f[role].shape), product=lambda f: f[role]
    )


def _ia3_axis(factors: Factors) -> int:
    return 1 if factors["on_input"].reshape(-1)[0] else 0


def _ia3_fits(factors: Factors, weight: Shape) -> bool:
    if factors["on_input"].size != 1 or len(weight) < 2:
        return False
    return bool(factors["weight"].size == weight[_ia3_axis(factors)])


def _ia3(factors: Factors, weight: Array, scale: float) -> Array:
    """(IA)^3 (Liu et al. 2022): rows or columns are scaled, by what the file has more than one."""
    axis = _ia3_axis(factors)
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    return weight * _scaled(factors["weight"].reshape(shape), scale)


def _oft(factors: Factors, weight: Array, scale: float) -> Array:
    return _scaled(orthogonal.turned(factors, weight) - weight, scale)


def _glora(factors: Factors, weight: Array, scale: float) -> Array:
    return _scaled(products.glora(factors, weight), scale)


_LEFT = (_roles("lokr_w1"), _roles("lokr_w1_a", "lokr_w1_b"))
_RIGHT = (_roles("lokr_w2"), _roles("lokr_w2_a", "lokr_w2_b"))
_HADA = _roles("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")

KINDS = (
    _additive(
        _roles("down", "up"),
        optional=_roles("mid"),
        size=products.lora_size,
        product=products.lora,
        rank="down",
    ),
    _additive(
        _HADA | _roles("hada_t1", "hada_t2"),
        _HADA,
        size=products.loha_size,
        product=products.loha,
        rank="hada_w1_b",
    ),
    _additive(
        *(left | right for left in _LEFT for right in _RIGHT),
        optional=_roles("lokr_t1", "lokr_t2"),
        size=products.lokr_size,
        product=products.lokr,
        rank="lokr_w2_b lokr_w1_b",
    ),
    _whole("diff"),
    _whole("w_norm"),
    Kind(
        (_roles("a1", "a2", "b1", "b2"),),
        lambda factors, weight: products.glora_order(factors, weight) is not None,
        _glora,
        lambda factors: min(matrix_shape(factors["a1"].shape)),
        _roles("bm"),
    ),
    Kind(
        (_roles("oft_blocks"), _roles("oft_diag")),
        orthogonal.fits,
        _oft,
        optional=_roles("rescale", "alpha"),
    ),
    Kind((_roles("weight", "on_input"),), _ia3_fits, _ia3),
)
"""In the order of webui, which takes the first that a layer's factors make."""
