"""What an edit is: a change to a graph before it is compiled."""

from typing import Any, Protocol

from .onnx_graph import OnnxGraph


class Edit(Protocol):
    """A change to a graph, for either engine; applied in the order in which they are listed.

    key: tells an edit from others, as JSON: compiled graphs are kept on disk under it. None where
        it depends on more than can be said there: such a graph is not kept.
    """

    @property
    def key(self) -> Any: ...

    def openvino(self, model: Any) -> Any:
        """The openvino.Model to go on with, from one whose shapes are fixed; it may be used up."""
        ...

    def onnx(self, graph: OnnxGraph) -> OnnxGraph:
        """The ONNX graph to go on with."""
        ...
