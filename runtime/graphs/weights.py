"""Changed weights, as LoRA and textual inversion files ask for them: an edit of a graph."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import onnx_weights, openvino_weights
from .changes import Changes, Shapes
from .onnx_graph import OnnxGraph


def shapes(path: Path) -> Shapes:
    """The named weights of a graph in a `.xml` or `.onnx` file; their data are not read.

    Raises AdapterError where the file is no whole graph.
    """
    if path.suffix == ".onnx":
        return onnx_weights.shapes(path)
    return openvino_weights.shapes(path)


@dataclass(frozen=True)
class ChangedWeights:
    """Weights replaced by what becomes of them; each keeps the number type it is stored in.

    Raises AdapterError when it is applied to a graph that lacks one, or has it quantized.
    """

    changes: Changes

    @property
    def key(self) -> None:
        """The new weights are in no file, so that a kept graph could not find them again."""

    def openvino(self, model: Any) -> Any:
        openvino_weights.change(model, self.changes)
        return model

    def onnx(self, graph: OnnxGraph) -> OnnxGraph:
        return onnx_weights.change(graph, self.changes)
