"""What the pipeline asks of an inference engine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..graphs.edit import Edit

Array = NDArray[Any]
Feeds = Mapping[str, Array]
Shapes = Mapping[str, Sequence[int]]


class Graph(Protocol):
    """A compiled graph: named arrays in, named arrays out. Safe to call from several threads.

    Inputs are cast to the graph's own number types; one row, where others have several, stands for
    all of them. Outputs are float32 copies, in the graph's order, under its names.
    """

    def __call__(self, feeds: Feeds) -> dict[str, NDArray[np.float32]]: ...


class Engine(Protocol):
    """Compiles graphs for one device.

    name: "openvino" or "onnxruntime".
    device: the device, as the engine itself names it.
    format: the graph format that `compile` expects, a key of `Bundle.graphs`.
    """

    name: str
    device: str
    format: str

    def compile(self, path: Path, shapes: Shapes, edits: Sequence[Edit] = ()) -> Graph:
        """The graph at `path`, made for just these input shapes, with these edits in their order.

        Raises EngineError where the file cannot be read or the device refuses it.
        """
        ...


@dataclass(frozen=True)
class Renamed:
    """A graph that calls some of its inputs by other names: ours -> its own."""

    graph: Graph
    names: Mapping[str, str]

    def __call__(self, feeds: Feeds) -> dict[str, NDArray[np.float32]]:
        return self.graph({self.names.get(name, name): value for name, value in feeds.items()})


def conform(value: Array, dtype: np.dtype[Any], rank: int) -> Array:
    """`value` in the number type and rank that a graph asks for.

    Exporters disagree on whether a timestep is a scalar or one number a sample, int64 or float.
    """
    value = np.ascontiguousarray(value, dtype)
    return value.reshape((1,) * rank) if value.size == 1 else value


def first_line(error: Exception) -> str:
    """The line of an engine's many that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (telling or lines or [type(error).__name__])[0][:300]
