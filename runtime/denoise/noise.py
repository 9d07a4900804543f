"""The noise that torch would have drawn: the same seed gives the same picture without torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..errors import SettingError

Array = npt.NDArray[np.float32]

BLOCK = 16
TWO_PI = np.float32(2 * math.pi)


class TorchNoise:
    """The stream of `torch.Generator("cpu").manual_seed(seed)`, read by torch.randn.

    Calls continue one another as they do in torch, whatever their sizes. The random bits are
    torch's exactly. What is made of them differs by rounding only: torch has vector code of its
    own for logarithm and sine, which differs by processor, and numpy has another; the values stay
    within 5e-7 of torch's, most of them equal. Not to be shared between threads.
    """

    def __init__(self, seed: int) -> None:
        """`seed` from -2^63 to 2^64 - 1, of which torch, and so this, uses the lower 32 bits.

        Raises SettingError for any other.
        """
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
            raise SettingError(f"seed {seed!r}: give a whole number")
        if not -(2**63) <= seed < 2**64:
            raise SettingError(f"seed {seed}: give one from -2^63 to 2^64 - 1")
        self._mersenne = np.random.RandomState(int(seed) & 0xFFFFFFFF)
        self._spare: float | None = None

    def normal(self, shape: Sequence[int]) -> Array:
        """Standard normal float32 numbers of `shape`, equal to `torch.randn(shape, generator=...)`.

        torch fills 16 and more by a vector kernel, fewer one by one in double precision.
        """
        size = math.prod(shape)
        values = self._vectorised(size) if size >= BLOCK else self._one_by_one(size)
        return values.reshape(tuple(shape))

    def _vectorised(self, size: int) -> Array:
        """Box-Muller on blocks of 16 uniforms: 8 for the radius, then 8 for the angle."""
        uniform = self._uniform(size)
        complete = size - size % BLOCK
        values = np.empty(size, np.float32)
        values[:complete] = box_muller(uniform[:complete])
        if complete < size:
            # The kernel knows whole blocks only, so it draws the last 16 values a second time.
            values[-BLOCK:] = box_muller(self._uniform(BLOCK))
        return values

    def _one_by_one(self, size: int) -> Array:
        """Box-Muller on pairs; the second of a pair waits in the generator for the next call."""
        values = np.empty(size, np.float32)
        for i in range(size):
            if self._spare is not None:
                values[i], self._spare = self._spare, None
                continue
            angle, chance = self._uniform_double() * 2 * math.pi, self._uniform_double()
            radius = math.sqrt(-2 * math.log1p(-chance))
            values[i], self._spare = radius * math.cos(angle), radius * math.sin(angle)
        return values

    def _uniform(self, size: int) -> Array:
        """24 random bits each, in [0, 1)."""
        bits = self._mersenne.randint(0, 2**32, size, dtype=np.uint32)
        uniform: Array = (bits & np.uint32(2**24 - 1)).astype(np.float32)
        uniform *= np.float32(2**-24)
        return uniform

    def _uniform_double(self) -> float:
        """53 random bits out of two draws, in [0, 1)."""
        high, low = self._mersenne.randint(0, 2**32, 2, dtype=np.uint32).tolist()
        bits: int = (high << 32 | low) & (2**53 - 1)
        return bits * 2.0**-53


def box_muller(uniform: Array) -> Array:
    """Normals from uniforms, whose number is a multiple of 16 [Box & Muller 1958]."""
    pairs = uniform.reshape(-1, 2, BLOCK // 2)
    # float32 throughout, as in torch: the rounding of the angle is part of its numbers.
    radius = np.sqrt(np.float32(-2) * np.log(np.float32(1) - pairs[:, 0]))
    angle = TWO_PI * pairs[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)
