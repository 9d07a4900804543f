"""What the pipeline asks of an inference engine."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError, shown
from ..graphs.edit import Edit

Array = NDArray[Any]
Feeds = Mapping[str, Array]
Shapes = Mapping[str, Sequence[int]]


class Graph(Protocol):
    """A compiled graph: named arrays in, named arrays out. Safe to call from several threads.

    Inputs are cast to the graph's own number types; one row, where others have several, stands for
    all of them. Outputs are float32 copies, in the graph's order, under its names.
    Raises EngineError where it has other inputs, or cannot compute them.
    """

    def __call__(self, feeds: Feeds) -> dict[str, NDArray[np.float32]]: ...


class Engine(Protocol):
    """Compiles graphs for one device.

    name: "openvino" or "onnxruntime".
    device: the device, as the engine itself names it.
    format: the graph format that `compile` expects, a key of `Bundle.graphs`.
    precision: what it computes in, graphs.float32.Exact aside: "f32", "bf16" or "f16".
    streams: calls of a graph that it computes at once.
    threads: of the CPU, which they share; None leaves it to the engine.
    """

    name: str
    device: str
    format: str
    precision: str
    streams: int
    threads: int | None

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


def check_fed(feeds: Feeds, inputs: Sequence[Collection[str]]) -> None:
    """Raise EngineError where a graph is fed other inputs than it has.

    inputs: the names of each, of which one will do. What is not fed would count as zeros.
    """
    known = {name for names in inputs for name in names}
    if unknown := sorted(feeds.keys() - known):
        raise EngineError(
            f"has no input {unknown[0]}; it has {shown(', '.join(sorted(known)), 300)}: the graph "
            "is not of the expected kind"
        )
    for names in inputs:
        if feeds.keys().isdisjoint(names):
            raise EngineError(
                f"wants an input {shown(min(names, default='without a name'))}, which it is not "
                "given: the graph is not of the expected kind"
            )


def conform(value: Array, dtype: np.dtype[Any], rank: int) -> Array:
    """`value` in the number type and rank that a graph asks for.

    Exporters disagree on whether a timestep is a scalar or one number a sample, int64 or float.
    """
    value = np.ascontiguousarray(value, dtype)
    return value.reshape((1,) * rank) if value.size == 1 else value


class MemoryShortError(EngineError):
    """The device's memory does not hold a graph, or what it computes."""


def failure(error: Exception, what: str, device: str) -> EngineError:
    """What to raise for an engine's error; MemoryShortError where that is what it says.

    device: the engine's name for it; memory of its own is nothing that max_memory counts.
    """
    if not memory_is_short(error):
        return EngineError(f"{what}: {first_line(error)}")
    if device.partition(":")[0] == "CPU":
        return MemoryShortError(f"{what}: {first_line(error)}")
    return MemoryShortError(
        f"{what}: the memory of {device} is short; paint smaller, with tile, or with device cpu"
    )


def memory_is_short(error: Exception) -> bool:
    """Whether that is what an engine's error says."""
    said = r"alloc\b|alloc_failed|failed to allocate|out of memory"
    return isinstance(error, MemoryError) or bool(re.search(said, str(error), re.IGNORECASE))


def first_line(error: Exception) -> str:
    """The line of an engine's many that says something; of short memory, what to do about it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    line = (telling or lines or [type(error).__name__])[0][:300]
    if memory_is_short(error):
        line += ": memory is short; paint smaller, with tile, or with max_memory"
    return line
