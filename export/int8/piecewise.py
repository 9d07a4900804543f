"""An engine for networks whose weights as float32 are too much for a laptop's memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pleinair.runtime.engines import cores
from pleinair.runtime.engines.openvino import OpenVinoEngine
from pleinair.runtime.engines.protocol import (
    Engine,
    Feeds,
    Graph,
    Shapes,
    check_fed,
    conform,
    first_line,
)
from pleinair.runtime.errors import EngineError
from pleinair.runtime.graphs.edit import Edit
from pleinair.runtime.model.footprint import weights

from .. import ir_pieces

# Bytes of a network's weights as float32. The UNets of Stable Diffusion 1 and 2 have 3.5 GB, and
# are computed faster as a whole; XL's has 10.3.
LARGE = 4_000_000_000


def exact_engine(graph: Path) -> Engine:
    """What computes a graph of OpenVINO's or ONNX in float32, in a laptop's memory."""
    form = "onnx" if graph.suffix == ".onnx" else "openvino"
    if is_large(graph):
        return PiecewiseEngine(form)
    return OpenVinoEngine(format=form, threads=cores.granted())


def is_large(graph: Path) -> bool:
    """Whether a graph as a whole takes too much memory.

    Weights that an ONNX graph casts from float16 are there twice: OpenVINO widens them all before
    it packs one.
    """
    size: int = weights(graph)
    return size > (LARGE // 2 if graph.suffix == ".onnx" else LARGE)


@dataclass
class PiecewiseEngine:
    """Runs graphs of OpenVINO's, or ONNX, on the CPU in float32, a few layers at a time.

    Each call reads and compiles all of the weights again: of XL's UNet half a minute.
    """

    format: str = "openvino"
    name: str = field(default="openvino", init=False)
    device: str = field(default="CPU", init=False)
    precision: str = field(default="f32", init=False)
    streams: int = field(default=1, init=False)
    threads: int | None = field(default=None, init=False)

    def compile(self, path: Path, shapes: Shapes, edits: Sequence[Edit] = ()) -> Graph:
        return _Graph(OpenVinoEngine(), path, shapes, edits)


@dataclass(frozen=True)
class _Graph:
    engine: OpenVinoEngine
    path: Path
    shapes: Shapes
    edits: Sequence[Edit]

    def __call__(self, feeds: Feeds) -> dict[str, NDArray[np.float32]]:
        try:
            return self._run(feeds)
        except (RuntimeError, MemoryError) as error:
            raise EngineError(f"OpenVINO cannot compute it: {first_line(error)}") from error

    def _run(self, feeds: Feeds) -> dict[str, NDArray[np.float32]]:
        model = self._model()
        check_fed(feeds, [set(port.names) for port in model.inputs])
        inputs = {}
        for name, value in feeds.items():
            port = model.input(name)
            rank = port.partial_shape.rank.get_length()
            inputs[port.any_name] = conform(value, port.element_type.to_dtype(), rank)
        names = [min(port.names) for port in model.outputs]
        del model  # and what it has mapped
        (outputs,) = ir_pieces.run(self._model, [inputs])
        return {name: outputs[name] for name in names}

    def _model(self) -> Any:
        return self.engine.model(self.path, self.shapes, self.edits)
