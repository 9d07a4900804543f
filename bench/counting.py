"""An engine in between, which counts the arithmetic of the graphs that OpenVINO would compile."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pleinair.runtime.engines.openvino import OpenVinoEngine
from pleinair.runtime.engines.protocol import Feeds, Graph, Shapes
from pleinair.runtime.graphs.edit import Edit

from .flops import Flops, counted


class CountingEngine:
    """Counts each graph with all that is put into it; `evaluated` says what then answers for it.

    evaluated: makes a graph of the engine and an openvino.Model.
    flops: of each graph, in order of compilation; None where its shapes are not fixed.
    graphs: what `evaluated` made, in the same order.
    """

    def __init__(
        self, engine: OpenVinoEngine, evaluated: Callable[[OpenVinoEngine, Any], Graph]
    ) -> None:
        self._engine, self._evaluated = engine, evaluated
        self.name, self.device, self.format = engine.name, engine.device, engine.format
        self.streams, self.threads = engine.streams, engine.threads
        self.precision = engine.precision
        self.flops: list[Flops | None] = []
        self.graphs: list[Graph] = []

    def compile(self, path: Path, shapes: Shapes, edits: Sequence[Edit] = ()) -> Graph:
        model = self._engine.model(path, shapes, edits)
        self.flops.append(counted(model))
        self.graphs.append(self._evaluated(self._engine, model))
        return self.graphs[-1]


class Noise:
    """A graph that computes nothing, and answers with noise of the right shapes.

    Noise and not zeros: the predictions of two branches must differ, as real ones do.
    """

    def __init__(self, engine: OpenVinoEngine, model: Any) -> None:
        self._shapes = {port.any_name: list(port.shape) for port in model.outputs}
        self._random = np.random.default_rng(0)

    def __call__(self, feeds: Feeds) -> dict[str, Any]:
        return {
            name: self._random.standard_normal(shape, np.float32)
            for name, shape in self._shapes.items()
        }
