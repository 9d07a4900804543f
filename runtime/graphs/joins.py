"""Where a UNet's skip connections are joined to its upper half, found in graphs of any exporter.

In no other place does a UNet of Stable Diffusion join two feature maps along the channels, so
nothing is looked up by an exporter's names. What comes from below is the first operand of a join,
the skip connection the second. Quantizers may stand on either side of one.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from . import protobuf
from .onnx_graph import INPUT, NODE, Node, integer_attribute

QUANTIZING = ("FakeQuantize", "QuantizeLinear", "DequantizeLinear")

_CHANNELS = 1  # the axis that two feature maps are joined on

_NAME, _TYPE = 1, 2  # of ValueInfoProto
_TENSOR, _ELEMENT, _SHAPE, _SIZE, _SIZE_VALUE = 1, 1, 2, 1, 1  # of TypeProto and below


def openvino_joins(model: Any) -> list[Any]:
    """The operations of an openvino.Model, in order of execution."""
    return [op for op in model.get_ordered_ops() if _joins_feature_maps(op)]


def _joins_feature_maps(op: Any) -> bool:
    if op.get_type_name() != "Concat" or op.get_input_size() != 2:
        return False
    rank = op.get_output_partial_shape(0).rank
    return bool(
        rank.is_static and rank.get_length() == 4 and op.get_attributes()["axis"] in (_CHANNELS, -3)
    )


def onnx_joins(graph: memoryview) -> Iterator[Node]:
    """The nodes of a GraphProto, in order of execution, in which ONNX has them.

    ONNX states no ranks; but what else is joined in pairs, sines with cosines, goes into no
    convolution.
    """
    nodes = [value for number, _, value, _ in protobuf.fields(graph) if number == NODE]
    parsed = [Node.parse(value) for value in nodes]
    makers = makers_of(parsed)
    convolved = {
        unquantized(name, makers)
        for node in parsed
        if node.operator == "Conv"
        for name in node.inputs
    }
    for node, message in zip(parsed, nodes, strict=True):
        two = node.operator == "Concat" and len(node.inputs) == 2
        axis = integer_attribute(message) if two else None
        if axis in (_CHANNELS, 2**64 - 3) and node.outputs[0] in convolved:
            yield node


def makers_of(nodes: list[Node]) -> dict[str, Node]:
    """Tensor -> the node that makes it."""
    return {name: node for node in nodes for name in node.outputs}


def unquantized(name: str, makers: Mapping[str, Node]) -> str:
    """A tensor as it was before it was quantized, where it was."""
    for _ in range(len(makers)):  # a damaged graph may be a circle
        if name not in makers or makers[name].operator not in QUANTIZING:
            break
        name = makers[name].inputs[0]
    return name


def declared(name: str, shape: tuple[int | None, ...], element: int) -> bytes:
    """A ValueInfoProto: a tensor that goes in or out; None is a size that is not fixed."""
    sizes = [
        protobuf.field(_SIZE, b"" if size is None else protobuf.integer(_SIZE_VALUE, size))
        for size in shape
    ]
    tensor = protobuf.integer(_ELEMENT, element) + protobuf.field(_SHAPE, b"".join(sizes))
    kind = protobuf.field(_TYPE, protobuf.field(_TENSOR, tensor))
    return protobuf.field(_NAME, name.encode()) + kind


def element_type(graph: memoryview) -> int:
    """The number type of the first input, the sample: what the graph computes in."""
    found = next(value for number, _, value, _ in protobuf.fields(graph) if number == INPUT)
    for wanted in (_TYPE, _TENSOR, _ELEMENT):
        found = next(value for number, _, value, _ in protobuf.fields(found) if number == wanted)
    return int(found)
