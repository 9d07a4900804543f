"""The VAE in tiles as diffusers has it, dot for dot: AutoencoderKL with `enable_tiling`."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .tiles import Size, Window, scaled

Array: TypeAlias = NDArray[np.float32]

# auto: for pictures that would take gigabytes whole.
WHEN = ("auto", "on", "off")


@dataclass(frozen=True)
class VaeTiling:
    """Tiles that begin every three quarters of one; those at the end are whatever is left.

    `tiles.Tiles` does it better, with tiles of one size: this is for the same picture as there.
    size: the latents' (rows, columns).
    tile: cells along the side of a tile.
    """

    size: Size
    tile: int

    @property
    def step(self) -> int:
        return max(1, self.tile * 3 // 4)

    def windows(self) -> list[Window]:
        """Where the tiles lie, row by row."""
        rows, columns = (
            [slice(i, min(i + self.tile, whole)) for i in range(0, whole, self.step)]
            for whole in self.size
        )
        return [(row, column) for row in rows for column in columns]

    def cut(self, whole: Array, cell: int = 1) -> list[Array]:
        """The tiles of an array, (batch, channels, rows * cell, columns * cell)."""
        return [whole[:, :, rows, columns] for rows, columns in scaled(self.windows(), cell)]

    def mix(self, parts: list[Array], cell: int = 1) -> Array:
        """The whole again: each tile blends in along its upper, then along its left edge."""
        across = len(range(0, self.size[1], self.step))
        overlap, kept = (self.tile - self.step) * cell, self.step * cell
        blended: list[Array] = []
        for i, part in enumerate(parts):
            if i >= across:
                part = _blended(blended[i - across], part, overlap, axis=2)
            if i % across:
                part = _blended(blended[i - 1], part, overlap, axis=3)
            blended.append(part)
        rows = [
            np.concatenate([part[:, :, :kept, :kept] for part in blended[i : i + across]], axis=3)
            for i in range(0, len(blended), across)
        ]
        return np.concatenate(rows, axis=2)


def _blended(before: Array, after: Array, overlap: int, axis: int) -> Array:
    """`after`, begun as the end of `before` and ever more itself over the overlap."""
    result: Array = after.copy()
    old, new = np.moveaxis(before, axis, -1), np.moveaxis(result, axis, -1)
    length = min(overlap, old.shape[-1], new.shape[-1])
    if length:
        share = np.arange(length, dtype=np.float32) / np.float32(length)
        new[..., :length] = old[..., -length:] * (1 - share) + new[..., :length] * share
    return result
