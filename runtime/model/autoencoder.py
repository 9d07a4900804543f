"""The two halves of the VAE as functions of arrays, at once or in tiles."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..engines.protocol import Graph
from .tiles import Tiles

Array: TypeAlias = NDArray[np.float32]
Shape: TypeAlias = tuple[int, ...]
Compile: TypeAlias = Callable[[Shape], Graph]


@dataclass
class Coder:
    """Encoder or decoder; its graph is compiled when a tile of another shape than the last comes.

    input: the name of the graph's input.
    cell_in, cell_out: dots that a cell of the latents spans along one side, in what goes in and in
        what comes out.
    compile: makes the graph for an input shape.
    """

    input: str
    cell_in: int
    cell_out: int
    tiles: Tiles
    compile: Compile
    _shape: Shape = ()
    _graph: Graph | None = None

    @classmethod
    def encoder(cls, factor: int, tiles: Tiles, compile: Compile) -> "Coder":
        """Pixels to what the VAE says of them; factor: of the latent space."""
        return cls("sample", factor, 1, tiles, compile)

    @classmethod
    def decoder(cls, factor: int, tiles: Tiles, compile: Compile) -> "Coder":
        """Latents to pixels."""
        return cls("latent_sample", 1, factor, tiles, compile)

    def prepare(self, batch: int, channels: int) -> None:
        """Compile for the first tile, before there is anything to put through."""
        self._fit(self.first_shape(batch, channels))

    def first_shape(self, batch: int, channels: int) -> Shape:
        """What the first tile's will be."""
        return (batch, channels, *(self.cell_in * length for length in self.tiles.tile))

    def __call__(self, array: Array, tell: Callable[[int, int], object] | None = None) -> Array:
        """Put (1, channels, height, width) through; `tell` hears of (tiles done, tiles)."""
        tiles = self.tiles.cut(array, self.cell_in)
        parts: dict[int, Array] = {}
        # Of the same shape one after the other: each other one has to be compiled.
        for i in sorted(range(len(tiles)), key=lambda i: tiles[i].shape, reverse=True):
            if tell:
                tell(len(parts), len(tiles))
            graph = self._fit(tiles[i].shape)
            parts[i] = next(iter(graph({self.input: tiles[i]}).values()))
        if tell:
            tell(len(parts), len(tiles))
        return self.tiles.mix([parts[i] for i in range(len(tiles))], self.cell_out)

    def _fit(self, shape: Shape) -> Graph:
        if self._graph is None or shape != self._shape:
            self._graph, self._shape = self.compile(shape), shape
        return self._graph
