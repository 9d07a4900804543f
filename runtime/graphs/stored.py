"""Weights where an openvino.Model stores them, often as float16 behind a conversion."""

from typing import Any


def stored(node: Any) -> Any:
    """Weight or bias of a node, its second input, as it is stored; None where it is computed."""
    source = node.input(1).get_source_output().get_node()
    while source.get_type_name() == "Convert":
        source = source.input(0).get_source_output().get_node()
    return source if source.get_type_name() == "Constant" else None
