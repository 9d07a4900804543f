"""A UNet's ends for what ControlNets add, put into the graph when it is opened.

Exporters leave them out. But a UNet of Stable Diffusion joins each skip connection to its upper
half in one operation, and in no other place are two feature maps joined: there the residuals of
the skip connections are added, and that of the middle block at the first one's other operand
[Zhang et al. 2023, fig. 3]. So one folder serves with and without ControlNets, whoever exported it,
and no weights are stored twice.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from ..errors import AdapterError
from . import protobuf
from .joins import declared, element_type, onnx_joins, openvino_joins
from .onnx_weights import Node

# diffusers' arguments of UNet2DConditionModel.
MIDDLE = "mid_block_additional_residual"
_DOWN = "down_block_additional_residuals.{}"

_GRAPH = 7  # of ModelProto
_NODE, _INPUT = 1, 11  # of GraphProto
_NODE_INPUT, _NODE_OUTPUT, _OPERATOR = 1, 2, 4  # of NodeProto

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

    ends = []
    for name, (join, operand) in _places(openvino_joins(model), residuals).items():
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
    places = _places(list(onnx_joins(graph)), residuals)
    added: dict[tuple[str, ...], list[tuple[str, int]]] = {}
    for name, (join, operand) in places.items():
        added.setdefault(join.outputs, []).append((name, operand))
    parts: list[bytes | memoryview] = []
    for number, _, value, whole in protobuf.fields(graph):
        node = Node.parse(value) if number == _NODE else Node()
        parts += _summed(node, value, added[node.outputs]) if node.outputs in added else [whole]
    element = element_type(graph)
    parts += [
        protobuf.field(_INPUT, declared(name, tuple(shape), element))
        for name, shape in residuals.items()
    ]
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
