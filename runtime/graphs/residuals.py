"""A UNet's ends for what ControlNets add, put into the graph when it is opened.

Exporters leave them out. But a UNet of Stable Diffusion joins each skip connection to its upper
half in one operation, and in no other place are two feature maps joined: there the residuals of
the skip connections are added, and that of the middle block at the first one's other operand
[Zhang et al. 2023, fig. 3]. So one folder serves with and without ControlNets, whoever exported it,
and no weights are stored twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ..errors import AdapterError
from . import protobuf
from .joins import declared, element_type, onnx_joins, openvino_joins
from .onnx_graph import INPUT, NODE, NODE_INPUT, NODE_OUTPUT, OPERATOR, Node, OnnxGraph

# diffusers' arguments of UNet2DConditionModel.
MIDDLE = "mid_block_additional_residual"
_DOWN = "down_block_additional_residuals.{}"

Join = TypeVar("Join")


def names(down: int) -> list[str]:
    """The inputs' names, from the upper skip connections downwards, then the middle block's."""
    return [*(_DOWN.format(i) for i in range(down)), MIDDLE]


@dataclass(frozen=True)
class Residuals:
    """Inputs for what ControlNets add to a UNet, by name, with their shapes.

    Raises AdapterError when it is applied to a graph that has not as many skip connections.
    """

    shapes: Mapping[str, Sequence[int]]

    @property
    def key(self) -> Any:
        return ["residuals", sorted([name, *map(int, of)] for name, of in self.shapes.items())]

    def openvino(self, model: Any) -> Any:
        from openvino import opset13 as opset

        added = []
        for name, (join, operand) in _sums(openvino_joins(model), self.shapes).items():
            port = join.input(operand)
            joined = port.get_source_output()
            parameter = opset.parameter(list(self.shapes[name]), joined.get_element_type(), name)
            parameter.output(0).set_names({name})
            port.replace_source_output(opset.add(joined, parameter).output(0))
            added.append(parameter)
        model.add_parameters(added)
        model.validate_nodes_and_infer_types()
        return model

    def onnx(self, graph: OnnxGraph) -> OnnxGraph:
        added: dict[tuple[str, ...], list[tuple[str, int]]] = {}
        for name, (join, operand) in _sums(list(onnx_joins(graph.graph)), self.shapes).items():
            added.setdefault(join.outputs, []).append((name, operand))
        parts: list[bytes | memoryview] = []
        for number, _, value, field in graph.fields():
            node = Node.parse(value) if number == NODE else Node()
            sums = added.get(node.outputs)
            parts += _summed(node, value, sums) if sums else [field]
        element = element_type(graph.graph)
        parts += [
            protobuf.field(INPUT, declared(name, tuple(shape), element))
            for name, shape in self.shapes.items()
        ]
        return graph.rewritten(parts)


def _sums(
    joins: Sequence[Join], residuals: Mapping[str, Sequence[int]]
) -> Mapping[str, tuple[Join, int]]:
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


def _summed(join: Node, message: memoryview, residuals: Sequence[tuple[str, int]]) -> list[bytes]:
    """An Add for each residual before a join, and the join, which takes the sums."""
    operands = list(join.inputs)
    adds = []
    for name, operand in residuals:
        adds.append(protobuf.field(NODE, _add(operands[operand], name)))
        operands[operand] = _sum(name)
    inputs = [protobuf.field(NODE_INPUT, name.encode()) for name in operands]
    rest = [field for number, _, _, field in protobuf.fields(message) if number != NODE_INPUT]
    return [*adds, protobuf.field(NODE, b"".join([*inputs, *rest]))]


def _add(joined: str, residual: str) -> bytes:
    names = [(NODE_INPUT, joined), (NODE_INPUT, residual), (NODE_OUTPUT, _sum(residual))]
    fields = [protobuf.field(number, name.encode()) for number, name in names]
    return b"".join([*fields, protobuf.field(OPERATOR, b"Add")])


def _sum(residual: str) -> str:
    return f"{residual}/sum"
