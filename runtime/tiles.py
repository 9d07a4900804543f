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
    """Tiles of one size, evenly spaced, each weighing less towards its edges.

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
        (rows, columns), (height, width) = self.size, self.tile
        weights = np.outer(
            _ramps(height * cell, self.overlap * cell), _ramps(width * cell, self.overlap * cell)
        )
        mixed = np.zeros((*parts[0].shape[:2], rows * cell, columns * cell), np.float32)
        total = np.zeros(mixed.shape[2:], np.float32)
        for window, part in zip(scaled(self.windows(), cell), parts, strict=True):
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


def _ramps(length: int, overlap: int) -> Array:
    """Weights along one side: they rise over the overlap, stay at 1, and fall again."""
    inside = np.arange(1, length + 1)
    edges = np.minimum(inside, inside[::-1])
    weights: Array = (np.minimum(edges, overlap + 1) / (overlap + 1)).astype(np.float32)
    return weights
