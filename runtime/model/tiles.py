"""Overlapping tiles: what is too large for a graph goes through it in parts, mixed again after."""

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float32]
Size: TypeAlias = tuple[int, int]
Window: TypeAlias = tuple[slice, slice]


@dataclass(frozen=True)
class Tiles:
    """Tiles of one size, evenly spaced, each weighing less towards its neighbours.

    Mixing the UNet's predictions in every step denoises all tiles as one picture, in which no tile
    has an edge of its own [Bar-Tal et al. 2023, MultiDiffusion; Jiménez 2023, Mixture of
    Diffusers]. Evenly spaced, they share one compiled graph and none is a narrow rest.

    Sizes are (rows, columns) in cells of the latents.
    size: of the whole.
    tile: of a tile, nowhere larger than the whole.
    overlap: by how many cells neighbours overlap at least.
    """

    size: Size
    tile: Size
    overlap: int

    @classmethod
    def covering(cls, size: Size, side: int | None, overlap: int = 0) -> "Tiles":
        """Square tiles of that side, cut where the whole is narrower; None is one tile."""
        rows, columns = size
        return cls(size, size if side is None else (min(side, rows), min(side, columns)), overlap)

    def windows(self) -> list[Window]:
        """Where the tiles lie, row by row."""
        rows, columns = (
            [slice(start, start + tile) for start in _starts(whole, tile, self.overlap)]
            for whole, tile in zip(self.size, self.tile, strict=True)
        )
        return [(row, column) for row in rows for column in columns]

    def cut(self, whole: Array, cell: int = 1) -> list[Array]:
        """The tiles of an array, (batch, channels, rows * cell, columns * cell).

        cell: how many of the array's dots a cell spans along one side: 1 in latents.
        """
        return [whole[:, :, rows, columns] for rows, columns in scaled(self.windows(), cell)]

    def mix(self, parts: list[Array], cell: int = 1) -> Array:
        """The whole again, from what has become of each tile: the reverse of `cut`."""
        if len(parts) == 1:
            return parts[0]
        rows, columns = (side * cell for side in self.size)
        mixed = np.zeros((*parts[0].shape[:2], rows, columns), np.float32)
        total = np.zeros((rows, columns), np.float32)
        for window, part in zip(scaled(self.windows(), cell), parts, strict=True):
            weights = np.outer(
                _weights(window[0], rows, self.overlap * cell),
                _weights(window[1], columns, self.overlap * cell),
            )
            mixed[:, :, window[0], window[1]] += weights * part
            total[window] += weights
        mixed /= total
        return mixed


def scaled(windows: list[Window], cell: int) -> list[Window]:
    """Windows over cells as windows over dots, of which a cell spans `cell` along one side."""
    return [
        (
            slice(rows.start * cell, rows.stop * cell),
            slice(columns.start * cell, columns.stop * cell),
        )
        for rows, columns in windows
    ]


def _starts(whole: int, tile: int, overlap: int) -> list[int]:
    """The fewest tiles that overlap enough, as far apart as they may be."""
    if whole == tile:
        return [0]
    last = math.ceil((whole - tile) / (tile - overlap))
    return [round(i * (whole - tile) / last) for i in range(last + 1)]


def _weights(side: slice, whole: int, overlap: int) -> Array:
    """Weights along one side of a tile, which rise and fall only where it has a neighbour.

    Next to an edge a graph sees nothing beyond it and errs: a quarter of the overlap counts for
    nothing, then the weights rise, and the last quarter is the tile's alone.
    """
    inside, margin = np.arange(1, side.stop - side.start + 1), overlap // 4
    rise = np.clip((inside - margin) / (overlap + 1 - 2 * margin), 0, 1).astype(np.float32)
    before = rise if side.start > 0 else np.ones_like(rise)
    after = rise[::-1] if side.stop < whole else np.ones_like(rise)
    weights: Array = np.minimum(before, after)
    return weights
