"""Overlapping tiles: what is too large for a graph goes through it in parts, mixed again after."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float32]
Size: TypeAlias = tuple[int, int]
Window: TypeAlias = tuple[slice, slice]


@dataclass(frozen=True)
class Tiles:
    """Where the tiles lie over a grid of cells, and how they become one again.

    size: (rows, columns) of the grid, as of latents.
    windows: a tile each, row by row.
    blend: makes one array of the tiles', (batch, channels, rows * cell, columns * cell); it is
        given them, the tiles, and how many dots a cell spans along one side.
    """

    size: Size
    windows: Sequence[Window]
    blend: Callable[["Tiles", Sequence[Array], int], Array]

    @classmethod
    def covering(cls, size: Size, side: int | None = None, overlap: int = 0) -> "Tiles":
        """Square tiles of one size, evenly spaced, cut where the grid is narrower; None is one.

        Mixing the denoiser's predictions in every step denoises all tiles as one picture, in which
        no tile has an edge of its own [Bar-Tal et al. 2023, MultiDiffusion; Jiménez 2023, Mixture
        of Diffusers]. Evenly spaced, they share one compiled graph and none is a narrow rest.

        overlap: by how many cells neighbours overlap at least.
        """
        tile = [length if side is None else min(side, length) for length in size]
        rows, columns = (
            [slice(start, start + part) for start in _starts(length, part, overlap)]
            for length, part in zip(size, tile, strict=True)
        )

        def blend(tiles: Tiles, parts: Sequence[Array], cell: int) -> Array:
            return _weighted(tiles, parts, cell, overlap * cell)

        return cls(size, _crossed(rows, columns), blend)

    @classmethod
    def as_diffusers(cls, size: Size, side: int) -> "Tiles":
        """The tiles of AutoencoderKL's `enable_tiling`, for the same picture as there.

        They begin every three quarters of one; those at the end are whatever is left.
        """
        step = max(1, side * 3 // 4)
        rows, columns = (
            [slice(start, min(start + side, length)) for start in range(0, length, step)]
            for length in size
        )

        def blend(tiles: Tiles, parts: Sequence[Array], cell: int) -> Array:
            return _blended_along_edges(parts, len(columns), step * cell, (side - step) * cell)

        return cls(size, _crossed(rows, columns), blend)

    @property
    def tile(self) -> Size:
        """(rows, columns) of the first tile; no other is larger."""
        rows, columns = self.windows[0]
        return rows.stop - rows.start, columns.stop - columns.start

    def cut(self, grid: Array, cell: int = 1) -> list[Array]:
        """The tiles of an array, (batch, channels, rows * cell, columns * cell).

        cell: how many of the array's dots a cell spans along one side: 1 in latents.
        """
        return [grid[:, :, rows, columns] for rows, columns in _scaled(self.windows, cell)]

    def mix(self, parts: Sequence[Array], cell: int = 1) -> Array:
        """One array again, from what has become of each tile: the reverse of `cut`."""
        return parts[0] if len(parts) == 1 else self.blend(self, parts, cell)


def _crossed(rows: Sequence[slice], columns: Sequence[slice]) -> list[Window]:
    return [(row, column) for row in rows for column in columns]


def _scaled(windows: Sequence[Window], cell: int) -> list[Window]:
    """Windows over cells as windows over dots, of which a cell spans `cell` along one side."""
    return [
        (
            slice(rows.start * cell, rows.stop * cell),
            slice(columns.start * cell, columns.stop * cell),
        )
        for rows, columns in windows
    ]


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    """The fewest tiles that overlap enough, as far apart as they may be."""
    if length == tile:
        return [0]
    last = math.ceil((length - tile) / (tile - overlap))
    return [round(i * (length - tile) / last) for i in range(last + 1)]


def _weighted(tiles: Tiles, parts: Sequence[Array], cell: int, overlap: int) -> Array:
    """The mean of all tiles, each weighing less towards its neighbours."""
    rows, columns = (length * cell for length in tiles.size)
    mixed = np.zeros((*parts[0].shape[:2], rows, columns), np.float32)
    total = np.zeros((rows, columns), np.float32)
    for window, part in zip(_scaled(tiles.windows, cell), parts, strict=True):
        weights = np.outer(
            _weights(window[0], rows, overlap), _weights(window[1], columns, overlap)
        )
        mixed[:, :, window[0], window[1]] += weights * part
        total[window] += weights
    mixed /= total
    return mixed


def _weights(side: slice, length: int, overlap: int) -> Array:
    """Weights along one side of a tile, which rise and fall only where it has a neighbour.

    Next to an edge a graph sees nothing beyond it and errs: a quarter of the overlap counts for
    nothing, then the weights rise, and the last quarter is the tile's alone.
    """
    inside, margin = np.arange(1, side.stop - side.start + 1), overlap // 4
    rise = np.clip((inside - margin) / (overlap + 1 - 2 * margin), 0, 1).astype(np.float32)
    before = rise if side.start > 0 else np.ones_like(rise)
    after = rise[::-1] if side.stop < length else np.ones_like(rise)
    weights: Array = np.minimum(before, after)
    return weights


def _blended_along_edges(parts: Sequence[Array], across: int, kept: int, overlap: int) -> Array:
    """Each tile blends in along its upper, then along its left edge, and is cut to `kept` dots."""
    blended: list[Array] = []
    for i, part in enumerate(parts):
        if i >= across:
            part = _faded(blended[i - across], part, overlap, axis=2)
        if i % across:
            part = _faded(blended[i - 1], part, overlap, axis=3)
        blended.append(part)
    rows = [
        np.concatenate([part[:, :, :kept, :kept] for part in blended[i : i + across]], axis=3)
        for i in range(0, len(blended), across)
    ]
    return np.concatenate(rows, axis=2)


def _faded(before: Array, after: Array, overlap: int, axis: int) -> Array:
    """`after`, begun as the end of `before` and ever more itself over the overlap."""
    result: Array = after.copy()
    old, new = np.moveaxis(before, axis, -1), np.moveaxis(result, axis, -1)
    length = min(overlap, old.shape[-1], new.shape[-1])
    if length:
        share = np.arange(length, dtype=np.float32) / np.float32(length)
        new[..., :length] = old[..., -length:] * (1 - share) + new[..., :length] * share
    return result
