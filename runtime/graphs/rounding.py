"""Weights in 8 bits as quantizers store them: whole numbers, and a step for each output channel."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .changes import Array

SMOOTHING = "nncf_smooth_quant"
"""Ends the name of what divides activations by the factors that weights were multiplied with."""
_BLOCK = 1 << 17
"""Values that are rounded at once: they stay in a core's cache from one operation to the next."""
_FULL, _HALF = 127.0, 63.5
_SMALLEST = np.finfo(np.float32).tiny


class Rounded(NamedTuple):
    """A weight (out, …) as numbers * steps, or (numbers - zeros) * steps where zeros are there."""

    numbers: NDArray[Any]
    steps: Array
    zeros: NDArray[np.uint8] | None = None


def rounded(weight: Array, before: NDArray[Any], least: Array | None = None) -> Rounded:
    """A weight in as many steps as the numbers that stood for another weight before it.

    before: int8, symmetric, to 127 steps on either side of zero, or to 63.5 where none was above
        64: sums of such products stay within the 16 bits in which processors without VNNI add them
        up. uint8, from the least to the largest value of a channel and zero, in 255 steps.
    least: the smallest steps that do, for each output channel.
    """
    rows = weight.reshape(len(weight), -1)
    numbers = np.empty(rows.shape, before.dtype)
    steps = np.empty(len(rows), np.float32)
    zeros = np.empty(len(rows), np.uint8) if before.dtype == np.uint8 else None
    most, span = _ends(before) if zeros is None else (0, 0.0)
    several = max(1, _BLOCK // max(1, rows.shape[1]))
    for begin in range(0, len(rows), several):
        block = slice(begin, begin + several)
        one = rows[block]
        if zeros is None:
            step = np.maximum(np.abs(one).max(1) / np.float32(span), _SMALLEST)
            if least is not None:
                step = np.maximum(step, least[block])
            whole = np.rint(one / step[:, None])
            numbers[block] = np.clip(whole, -most, most, out=whole)
        else:
            low, high = np.minimum(one.min(1), 0), np.maximum(one.max(1), 0)
            step = np.maximum((high - low) / np.float32(255), _SMALLEST)
            zero = np.clip(np.rint(-low / step), 0, 255)
            whole = np.rint(one / step[:, None] + zero[:, None])
            numbers[block], zeros[block] = np.clip(whole, 0, 255, out=whole), zero
        steps[block] = step
    return Rounded(numbers.reshape(weight.shape), steps, zeros)


def _ends(numbers: NDArray[Any]) -> tuple[int, float]:
    """The largest number, and how many steps the largest value of a channel is away from zero."""
    most = max(int(numbers.max()), -int(numbers.min())) if numbers.size else 0
    return (most, _HALF) if 0 < most <= _HALF + 1 else (127, _FULL)
