"""The matrices that factors make: LoRA, LoHa, LoKr and GLoRA, of matrices and convolutions.

Each has its size, which is known from shapes alone, beside its product.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Factors = Mapping[str, NDArray[Any]]
Shape = tuple[int, ...]
Size = tuple[int, int]


def matrix_shape(shape: Shape) -> Size:
    """Rows and columns of a weight; a row is all that makes one number of the output."""
    return (shape[0], math.prod(shape[1:])) if shape else (1, 1)


def first_axis(factors: Factors, names: str) -> int | None:
    """The length of the first of these factors that is there."""
    found = next((factors[name] for name in names.split() if name in factors), None)
    return None if found is None else matrix_shape(found.shape)[0]


def _matrix(factor: Array) -> Array:
    return factor.reshape(matrix_shape(factor.shape))


def _times(outer: Shape, inner: Shape) -> Size:
    """The size of outer (out, r) times inner (r, …); ValueError where r is not the same."""
    (rows, rank), (same, columns) = matrix_shape(outer), matrix_shape(inner)
    if rank != same:
        raise ValueError(f"{outer} and {inner} cannot be multiplied")
    return rows, columns


def _tucker_size(core: Shape, outer: Shape, inner: Shape) -> Size:
    """The size of core (r, r, height, width) between outer (r, out) and inner (r, in)."""
    if len(outer) != 2 or len(inner) != 2 or core[:2] != (outer[0], inner[0]):
        raise ValueError(f"{core} does not stand between {outer} and {inner}")
    return outer[1], inner[1] * math.prod(core[2:])


def _tucker(core: Array, outer: Array, inner: Array) -> Array:
    """core (r, r, height, width) between outer (r, out) and inner (r, in).

    That side comes first which leaves less in between, for the ranks are anybody's.
    """
    if core.shape[0] * inner.shape[1] <= core.shape[1] * outer.shape[1]:
        wide = np.tensordot(core, inner, axes=(1, 0))  # (r, height, width, in)
        made = np.tensordot(outer, wide, axes=(0, 0))
    else:
        tall = np.tensordot(outer, core, axes=(0, 0))  # (out, r, height, width)
        made = np.tensordot(tall, inner, axes=(1, 0))
    return np.ascontiguousarray(np.moveaxis(made, -1, 1))


def lora_size(f: Factors) -> Size:
    up, down = matrix_shape(f["up"].shape), matrix_shape(f["down"].shape)
    return _tucker_size(f["mid"].shape, up[::-1], down) if "mid" in f else _times(up, down)


def lora(f: Factors) -> Array:
    """Hu et al. 2021: B A. With a core between them, a convolution's Tucker decomposition."""
    up, down = _matrix(f["up"]), _matrix(f["down"])
    return _tucker(f["mid"], up.T, down) if "mid" in f else up @ down


def loha_size(f: Factors) -> Size:
    first, second = (_loha_side_size(f, side) for side in (1, 2))
    if first != second:
        raise ValueError(f"{first} and {second} cannot be multiplied entry by entry")
    return first


def _loha_side_size(f: Factors, side: int) -> Size:
    outer, inner = f[f"hada_w{side}_a"].shape, f[f"hada_w{side}_b"].shape
    if "hada_t1" in f and "hada_t2" in f:
        return _tucker_size(f[f"hada_t{side}"].shape, outer, inner)
    return _times(outer, inner)


def loha(f: Factors) -> Array:
    """Hyeon-Woo et al. 2022 (FedPara): the Hadamard product of two low-rank matrices."""
    return _loha_side(f, 1) * _loha_side(f, 2)


def _loha_side(f: Factors, side: int) -> Array:
    outer, inner = f[f"hada_w{side}_a"], f[f"hada_w{side}_b"]
    if "hada_t1" in f and "hada_t2" in f:
        return _tucker(f[f"hada_t{side}"], outer, inner)
    return _matrix(outer) @ _matrix(inner)


def lokr_size(f: Factors) -> Size:
    left, right = _lokr_side_size(f, 1), _lokr_side_size(f, 2)
    (rows, columns), (more_rows, more_columns) = matrix_shape(left), matrix_shape(right)
    return rows * more_rows, columns * more_columns


def _lokr_side_size(f: Factors, side: int) -> Shape:
    """The shape of one of the two, which may be a convolution's."""
    if f"lokr_w{side}" in f:
        return f[f"lokr_w{side}"].shape
    outer, inner = f[f"lokr_w{side}_a"].shape, f[f"lokr_w{side}_b"].shape
    if f"lokr_t{side}" in f:
        core = f[f"lokr_t{side}"].shape
        rows, _ = _tucker_size(core, outer, inner)
        return (rows, inner[1], *core[2:])
    return _times(outer, inner)


def lokr(f: Factors) -> Array:
    """Edalati et al. 2022 (KronA): the Kronecker product of two matrices, whole or low-rank."""
    left, right = _lokr_side(f, 1), _lokr_side(f, 2)
    axes = max(left.ndim, right.ndim)
    left, right = (side.reshape(*side.shape, *[1] * (axes - side.ndim)) for side in (left, right))
    return np.kron(left, right)


def _lokr_side(f: Factors, side: int) -> Array:
    if f"lokr_w{side}" in f:
        return f[f"lokr_w{side}"]
    outer, inner = f[f"lokr_w{side}_a"], f[f"lokr_w{side}_b"]
    if f"lokr_t{side}" in f:
        return _tucker(f[f"lokr_t{side}"], outer, inner)
    return _matrix(outer) @ _matrix(inner)


def glora_order(f: Factors, weight: Shape) -> tuple[str, str, str, str] | None:
    """Names of A's outer and inner factor and of B's, as they fit the weight; None where not.

    Older LyCORIS had them the other way round. Where both ways fit, the older is meant, as ComfyUI
    has it.
    """
    if len(weight) < 2:
        return None
    for order in (("a2", "a1", "b2", "b1"), ("a1", "a2", "b1", "b2")):
        try:
            mixing, added = _glora_sizes(f, *order)
        except ValueError:
            continue
        if mixing == (weight[1], weight[1]) and added == matrix_shape(weight):
            return order
    return None


def _glora_sizes(f: Factors, a_outer: str, a: str, b_outer: str, b: str) -> tuple[Size, Size]:
    mixing = _times(f[a_outer].shape, f[a].shape)
    outer, inner = matrix_shape(f[b_outer].shape), matrix_shape(f[b].shape)
    if "bm" in f:
        return mixing, _tucker_size(f["bm"].shape, outer[::-1], inner)
    return mixing, _times(outer, inner)


def glora(f: Factors, weight: Array) -> Array:
    """Chavan et al. 2023: W A + B, where A mixes the channels that the weight reads."""
    order = glora_order(f, weight.shape)
    assert order is not None  # it has been found to fit
    a_outer, a, b_outer, b = (_matrix(f[role]) for role in order)
    added = _tucker(f["bm"], b_outer.T, b) if "bm" in f else b_outer @ b
    channels = np.moveaxis(weight, 1, -1)
    mixed = np.moveaxis((channels @ a_outer) @ a, -1, 1)
    return np.asarray(mixed + added.reshape(weight.shape), np.float32)
