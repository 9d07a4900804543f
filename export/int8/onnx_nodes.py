"""The nodes of an ONNX graph, put into another order or exchanged, and what they read."""

from collections.abc import Sequence
from typing import Any


def exchange(model: Any, nodes: Sequence[Any]) -> None:
    """Let an onnx.ModelProto have these nodes, of which some may be its own, in this order."""
    # Copied first: what is deleted from a graph is gone for those who still hold it.
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def leave_out_unread(model: Any) -> None:
    """Drop weights that no node reads any more."""
    read = {name for node in model.graph.node for name in node.input}
    unread = {weight.name for weight in model.graph.initializer} - read
    for held in (model.graph.initializer, model.graph.input):  # older graphs list them in both
        for i in reversed(range(len(held))):
            if held[i].name in unread:
                del held[i]
