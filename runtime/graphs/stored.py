"""Weights where an openvino.Model stores them, often as float16 behind a conversion."""

from typing import Any


def stored(node: Any, port: int = 1) -> Any:
    """What a node takes, by itself its weight or bias, as it is stored; None where it is computed.

    port: the number of the input; weights and biases are the second.
    """
    source = node.input(port).get_source_output().get_node()
    while source.get_type_name() == "Convert":
        source = source.input(0).get_source_output().get_node()
    return source if source.get_type_name() == "Constant" else None
