"""OFT and BOFT (Qiu et al. 2023, Liu et al. 2024): blocks of a weight's rows, turned.

A block's rotation R is Cayley's, (I + Q)(I - Q)^-1 with Q skew-symmetric, of what a file has under
`oft_blocks`; older files of LyCORIS have R itself, as `oft_diag`. The alpha of such a layer is no
scale but a bound: Q's norm is at most alpha times the rows (COFT).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Factors = Mapping[str, NDArray[Any]]


def fits(factors: Factors, weight: tuple[int, ...]) -> bool:
    """Whether the blocks make up the weight's rows; of BOFT's factors each halves the blocks."""
    blocks = _blocks(factors)
    if blocks.ndim not in (3, 4) or blocks.shape[-1] != blocks.shape[-2] or not weight:
        return False
    rescale = factors.get("rescale")
    if rescale is not None and rescale.size != weight[0]:
        return False
    number, size = blocks.shape[-3], blocks.shape[-1]
    if number * size != weight[0]:
        return False
    if blocks.ndim == 3:
        return True
    steps = len(blocks)
    return size % 2 == 0 and steps < 32 and weight[0] % ((size // 2) << steps) == 0


def turned(factors: Mapping[str, Array], weight: Array) -> Array:
    """The weight whose rows are turned by the blocks, and rescaled."""
    blocks, rows = _blocks(factors), weight.shape[0]
    if "oft_blocks" in factors:
        blocks = _cayley(blocks, float(factors.get("alpha", np.zeros(1)).reshape(-1)[0]) * rows)
    matrix = weight.reshape(rows, -1)
    if blocks.ndim == 3:
        parts = matrix.reshape(len(blocks), blocks.shape[1], -1)
        matrix = np.matmul(blocks.transpose(0, 2, 1), parts).reshape(rows, -1)
    else:
        for step, factor in enumerate(blocks):
            matrix = _butterfly(factor, matrix, blocks.shape[-1] // 2 << step)
    if "rescale" in factors:
        matrix = matrix * factors["rescale"].reshape(-1, 1)
    return np.ascontiguousarray(matrix.reshape(weight.shape), np.float32)


def _blocks(factors: Factors) -> NDArray[Any]:
    return factors["oft_blocks"] if "oft_blocks" in factors else factors["oft_diag"]


def _cayley(blocks: Array, bound: float) -> Array:
    skew = blocks - blocks.swapaxes(-1, -2)
    norm = float(np.sqrt(np.square(skew, dtype=np.float64).sum())) + 1e-8
    if 0 < bound < norm:
        skew = skew * np.float32(bound / norm)
    identity = np.eye(blocks.shape[-1], dtype=np.float32)
    turned: Array = np.matmul(identity + skew, np.linalg.inv(identity - skew))
    return turned


def _butterfly(blocks: Array, matrix: Array, stride: int) -> Array:
    """One factor of BOFT: rows a stride apart are brought together, turned, and put back."""
    rows, size = len(matrix), blocks.shape[-1]
    paired = matrix.reshape(-1, 2, stride, matrix.shape[1]).swapaxes(1, 2)
    parts = np.matmul(blocks, paired.reshape(rows // size, size, -1))
    back = parts.reshape(-1, stride, 2, matrix.shape[1]).swapaxes(1, 2)
    return np.ascontiguousarray(back.reshape(rows, -1), np.float32)
