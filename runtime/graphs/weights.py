"""Changed weights, as LoRA and textual inversion files ask for them: an edit of a graph."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import onnx_rounded, onnx_weights, openvino_rounded, openvino_weights
from .changes import Changes, Shapes, Values
from .onnx_graph import OnnxGraph


def shapes(path: Path) -> Shapes:
    """The named weights of a graph in a `.xml` or `.onnx` file; their data are not read.

    Raises AdapterError where the file is no whole graph.
    """
    if path.suffix == ".onnx":
        return onnx_weights.shapes(path)
    return openvino_weights.shapes(path)


def shapes_in_8_bits(path: Path) -> Shapes:
    """As `shapes`, of a graph in which weights of 8 bits, too, can be changed."""
    if path.suffix == ".onnx":
        return onnx_rounded.shapes(path)
    return openvino_rounded.shapes(path)


@dataclass(frozen=True)
class ChangedWeights:
    """Weights replaced by what becomes of them; each keeps the number type it is stored in.

    exact: a graph of the same weights in floats. Where it is given, the changed graph has weights
        of 8 bits, which are changed in floats and rounded anew; else the graph's own are changed.
    asked: tells these changes from others, as JSON; None where nobody says so.
    Raises AdapterError when it is applied to a graph that lacks one, or has it quantized.
    """

    changes: Changes
    exact: Path | None = None
    asked: Any = None

    @property
    def key(self) -> None:
        """The new weights are in no file, so that a kept graph could not find them again."""

    @property
    def identity(self) -> Any:
        """What is equal for the same changes of the same graph, as far as that is known."""
        return self if self.asked is None else self.asked

    def openvino(self, model: Any) -> Any:
        if self.exact is None:
            openvino_weights.change(model, self.changes)
        else:
            openvino_rounded.change(model, self.changes, _values(self.exact))
        return model

    def onnx(self, graph: OnnxGraph) -> OnnxGraph:
        if self.exact is None:
            return onnx_weights.change(graph, self.changes)
        return onnx_rounded.change(graph, self.changes, _values(self.exact))


def _values(path: Path) -> Values:
    """The numbers of a graph's weights, in a file of either format."""
    if path.suffix == ".onnx":
        return onnx_weights.values(path)
    return openvino_weights.values(path)
