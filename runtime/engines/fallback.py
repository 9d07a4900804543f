"""What "auto" does where a device's memory is short: the CPU computes what does not fit."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..graphs.edit import Edit
from .protocol import Engine, Feeds, Graph, MemoryShortError, Shapes

log = logging.getLogger("pleinair")


@dataclass
class Fallback:
    """An engine for a device, and one for the CPU that takes its place, graph by graph.

    Both are of one name and format, so that the same files and edits do for either.
    device, precision: the CPU's, as soon as anything had to be computed there.
    """

    first: Engine
    second: Engine

    def __post_init__(self) -> None:
        self.name, self.format, self.device = self.first.name, self.first.format, self.first.device
        self.precision, self.streams = self.first.precision, self.first.streams
        self.threads = self.first.threads

    def compile(self, path: Path, shapes: Shapes, edits: Sequence[Edit] = ()) -> Graph:
        def on_cpu(error: MemoryShortError) -> Graph:
            log.warning("%s is computed on the CPU: %s", path.parent.name, error)
            self.device, self.precision = self.second.device, self.second.precision
            return self.second.compile(path, shapes, edits)

        try:
            return _Watched(self.first.compile(path, shapes, edits), on_cpu)
        except MemoryShortError as error:
            return on_cpu(error)


@dataclass
class _Watched:
    """A graph that is compiled for the CPU when the device's memory is too short to compute it."""

    graph: Graph
    on_cpu: Callable[[MemoryShortError], Graph]

    def __call__(self, feeds: Feeds) -> dict[str, NDArray[np.float32]]:
        try:
            return self.graph(feeds)
        except MemoryShortError as error:
            self.graph = self.on_cpu(error)
        return self.graph(feeds)
