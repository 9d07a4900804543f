"""Number types that numpy has not, widened to such as it has: bfloat16, and floats of 8 bits."""

import numpy as np
from numpy.typing import NDArray


def from_bfloat16(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """bfloat16 is the upper half of a float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def from_e5m2(bits: NDArray[np.uint8]) -> NDArray[np.float16]:
    """Float8 of 5 exponent bits is the upper half of a float16."""
    return (bits.astype(np.uint16) << 8).view(np.float16)


def from_e4m3fn(bits: NDArray[np.uint8]) -> NDArray[np.float16]:
    """Float8 of 4 exponent bits, without infinities; every value is one of float16, too.

    Micikevicius et al. 2022, arXiv 2209.05433, table 1: the bias is 7, and all ones are no number.
    """
    return _E4M3FN[bits]


def _table() -> NDArray[np.float16]:
    bits = np.arange(256)
    sign, exponent, fraction = 1 - 2 * (bits >> 7), bits >> 3 & 15, bits & 7
    normal = (8 + fraction) * 2.0 ** (exponent - 10)
    values = sign * np.where(exponent == 0, fraction * 2.0**-9, normal)
    return np.where(bits & 127 == 127, np.nan, values).astype(np.float16)


_E4M3FN = _table()
