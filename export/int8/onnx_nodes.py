"""The nodes of an ONNX graph, put into another order or exchanged."""

from collections.abc import Sequence
from typing import Any


def exchange(model: Any, nodes: Sequence[Any]) -> None:
    """Let an onnx.ModelProto have these nodes, of which some may be its own, in this order."""
    # Copied first: what is deleted from a graph is gone for those who still hold it.
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
