"""The two halves of the VAE as functions of arrays, whole or in tiles."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..engines.protocol import Graph
from .tiles import Tiles
from .vae_tiling import VaeTiling

Array: TypeAlias = NDArray[np.float32]
Shape: TypeAlias = tuple[int, ...]


@dataclass
class Half:
    """Encoder or decoder; its graph is compiled when a tile of another shape than the last comes.

    name: of the graph's input.
    given, made: dots that a cell of the latents spans, in what goes in and in what comes out.
    compiled: makes the graph for an input shape.
    """

    name: str
    given: int
    made: int
    tiling: Tiles | VaeTiling
    compiled: Callable[[Shape], Graph]
    _shape: Shape = ()
    _graph: Graph | None = None

    def prepare(self, batch: int, channels: int) -> None:
        """Compile for the first tile, before there is anything to put through."""
        rows, columns = self.tiling.windows()[0]
        sides = (self.given * (side.stop - side.start) for side in (rows, columns))
        self._fit((batch, channels, *sides))

    def __call__(self, whole: Array, tell: Callable[[int, int], object] | None = None) -> Array:
        """Put (1, channels, height, width) through; `tell` hears of (tiles done, tiles)."""
        tiles = self.tiling.cut(whole, self.given)
        parts: dict[int, Array] = {}
        # Of the same shape one after the other: each other one has to be compiled.
        for i in sorted(range(len(tiles)), key=lambda i: tiles[i].shape, reverse=True):
            if tell:
                tell(len(parts), len(tiles))
            graph = self._fit(tiles[i].shape)
            parts[i] = next(iter(graph({self.name: tiles[i]}).values()))
        if tell:
            tell(len(parts), len(tiles))
        return self.tiling.mix([parts[i] for i in range(len(tiles))], self.made)

    def _fit(self, shape: Shape) -> Graph:
        if self._graph is None or shape != self._shape:
            self._graph, self._shape = self.compiled(shape), shape
        return self._graph
