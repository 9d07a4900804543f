"""A UNet's ends for what ControlNets add, put into the graph when it is opened.

Exporters leave them out. But a UNet of Stable Diffusion joins each skip connection to its upper
half in one operation, and in no other place are two feature maps joined: there the residuals of
the skip connections are added, and that of the middle block at the first one's other operand
[Zhang et al. 2023, fig. 3]. So one folder serves with and without ControlNets, whoever exported it,
and no weights are stored twice.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from ..errors import AdapterError
from . import protobuf
from .onnx_graph import Node

# diffusers' arguments of UNet2DConditionModel.
MIDDLE = "mid_block_additional_residual"
_DOWN = "down_block_additional_residuals.{}"

_CHANNELS = 1  # the axis that two feature maps are joined on

_GRAPH = 7  # of ModelProto
_NODE, _INPUT = 1, 11  # of GraphProto
_NODE_INPUT, _NODE_OUTPUT, _OPERATOR, _ATTRIBUTE = 1, 2, 4, 5  # of NodeProto
_INTEGER = 3  # of AttributeProto; Concat has no attribute but its axis
_NAME, _TYPE = 1, 2  # of ValueInfoProto
_TENSOR, _ELEMENT, _SHAPE, _SIZE, _SIZE_VALUE = 1, 1, 2, 1, 1  # of TypeProto and below

Join = TypeVar("Join")
Ends = Mapping[str, Sequence[int]]
"""Inputs to add, by name, and their shapes."""


def names(down: int) -> list[str]:
    """The ends' names, from the upper skip connections downwards, then the middle block's."""
    return [*(_DOWN.format(i) for i in range(down)), MIDDLE]


def add_to_openvino(model: Any, residuals: Ends) -> None:
    """Give an openvino.Model, not compiled yet, inputs of these names and shapes.

    Raises AdapterError where the graph's skip connections are not as many.
    """
    from openvino import opset13 as opset

    joins = [op for op in model.get_ordered_ops() if _joins_feature_maps(op)]
    ends = []
    for name, (join, operand) in _places(joins, residuals).items():
        port = join.input(operand)
        joined = port.get_source_output()
        end = opset.parameter(list(residuals[name]), joined.get_element_type(), name)
        end.output(0).set_names({name})
        port.replace_source_output(opset.add(joined, end).output(0))
        ends.append(end)
    model.add_parameters(ends)
    model.validate_nodes_and_infer_types()


def add_to_onnx(model: bytes, residuals: Ends) -> bytes:
    """The ONNX model with inputs of these names and shapes; errors as for OpenVINO."""
    view = memoryview(model)
    graph = next(value for number, _, value, _ in protobuf.fields(view) if number == _GRAPH)
    places = _places(list(_onnx_joins(graph)), residuals)
    added: dict[tuple[str, ...], list[tuple[str, int]]] = {}
    for name, (join, operand) in places.items():
        added.setdefault(join.outputs, []).append((name, operand))
    parts: list[bytes | memoryview] = []
    for number, _, value, whole in protobuf.fields(graph):
        node = Node.parse(value) if number == _NODE else Node()
        parts += _summed(node, value, added[node.outputs]) if node.outputs in added else [whole]
    element = _element_type(graph)
    parts += [_end(name, shape, element) for name, shape in residuals.items()]
    rest = [whole for number, _, _, whole in protobuf.fields(view) if number != _GRAPH]
    return b"".join([*rest, protobuf.field(_GRAPH, b"".join(parts))])


def _places(joins: Sequence[Join], residuals: Ends) -> Mapping[str, tuple[Join, int]]:
    """Residual -> the join, and its operand, that it is added to."""
    down = names(len(joins))[:-1]
    if not joins or set(residuals) != {*down, MIDDLE}:
        raise AdapterError(
            f"this UNet has {len(joins)} skip connections that a ControlNet could add to, and the "
            f"ControlNet adds to {len(residuals) - 1}; take one made for this kind of model"
        )
    # What goes down first comes up last.
    skips = {name: (join, 1) for name, join in zip(down, reversed(joins), strict=True)}
    return {**skips, MIDDLE: (joins[0], 0)}


def _joins_feature_maps(op: Any) -> bool:
    if op.get_type_name() != "Concat" or op.get_input_size() != 2:
        return False
    rank = op.get_output_partial_shape(0).rank
    return bool(
        rank.is_static and rank.get_length() == 4 and op.get_attributes()["axis"] in (_CHANNELS, -3)
    )


def _onnx_joins(graph: memoryview) -> Iterator[Node]:
    """In order of execution, in which ONNX has its nodes.

    ONNX states no ranks; but what else is joined in pairs, sines with cosines, goes into no
    convolution.
    """
    nodes = [value for number, _, value, _ in protobuf.fields(graph) if number == _NODE]
    parsed = [Node.parse(value) for value in nodes]
    convolved = {name for node in parsed if node.operator == "Conv" for name in node.inputs}
    for node, message in zip(parsed, nodes, strict=True):
        two = node.operator == "Concat" and len(node.inputs) == 2
        if two and _axis(message) in (_CHANNELS, 2**64 - 3) and node.outputs[0] in convolved:
            yield node


def _axis(concat: memoryview) -> int | None:
    for number, _, attribute, _ in protobuf.fields(concat):
        if number == _ATTRIBUTE:
            return next((n for i, _, n, _ in protobuf.fields(attribute) if i == _INTEGER), None)
    return None


def _summed(join: Node, message: memoryview, ends: Sequence[tuple[str, int]]) -> list[bytes]:
    """An Add for each end before a join, and the join, which takes the sums."""
    operands = list(join.inputs)
    adds = []
    for name, operand in ends:
        adds.append(protobuf.field(_NODE, _add(operands[operand], name)))
        operands[operand] = _sum(name)
    inputs = [protobuf.field(_NODE_INPUT, name.encode()) for name in operands]
    rest = [whole for number, _, _, whole in protobuf.fields(message) if number != _NODE_INPUT]
    return [*adds, protobuf.field(_NODE, b"".join([*inputs, *rest]))]


def _add(joined: str, end: str) -> bytes:
    ends = [(_NODE_INPUT, joined), (_NODE_INPUT, end), (_NODE_OUTPUT, _sum(end))]
    fields = [protobuf.field(number, name.encode()) for number, name in ends]
    return b"".join([*fields, protobuf.field(_OPERATOR, b"Add")])


def _sum(end: str) -> str:
    return f"{end}/sum"


def _end(name: str, shape: Sequence[int], element: int) -> bytes:
    """The declaration of an input."""
    sizes = [protobuf.field(_SIZE, protobuf.integer(_SIZE_VALUE, size)) for size in shape]
    tensor = protobuf.integer(_ELEMENT, element) + protobuf.field(_SHAPE, b"".join(sizes))
    declared = protobuf.field(_TYPE, protobuf.field(_TENSOR, tensor))
    return protobuf.field(_INPUT, protobuf.field(_NAME, name.encode()) + declared)


def _element_type(graph: memoryview) -> int:
    """The number type of the first input, the sample: what the graph computes in."""
    declared = next(value for number, _, value, _ in protobuf.fields(graph) if number == _INPUT)
    for wanted in (_TYPE, _TENSOR, _ELEMENT):
        declared = next(
            value for number, _, value, _ in protobuf.fields(declared) if number == wanted
        )
    return int(declared)
