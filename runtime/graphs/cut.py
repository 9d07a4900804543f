"""A UNet cut in two at a skip connection, when it is opened, so that its deep features can be kept.

From one step to the next the features that come up from a UNet's depths change little, and it is
they that cost: DeepCache [Ma et al. 2023, sec. 3.2] computes them in some steps and keeps them for
the others. So a graph is opened twice: the full one also hands the features out, the shallow one
takes them and has nothing below the cut, whose weights are not even loaded. One folder serves with
and without, whoever exported it, quantized, steered by ControlNets or changed by LoRA files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ..errors import AdapterError
from . import protobuf
from .joins import (
    QUANTIZING,
    declared,
    element_type,
    makers_of,
    onnx_joins,
    openvino_joins,
    unquantized,
)
from .onnx_graph import (
    BETWEEN,
    INITIALIZER,
    INPUT,
    NODE,
    NODE_INPUT,
    NODE_OUTPUT,
    OPERATOR,
    OUTPUT,
    Node,
    OnnxGraph,
    tensor_name,
)

# The output of a full graph, the input of a shallow one.
DEEP_FEATURES = "deep_features"

_NAME = 1  # of ValueInfoProto
_ANY_SHAPE = (None,) * 4

Join = TypeVar("Join")


@dataclass(frozen=True)
class Cut:
    """Where a UNet is cut, and which part it is opened as.

    branch: the skip connection above the cut, counted from the uppermost as DeepCache does: at 0 a
        shallow graph has the last ResNet and attention of the top up block alone, at 1 the last
        two and the first of the top down block, and so on.
    shallow: the part above the cut; False is the full graph.

    Raises AdapterError when it is applied to a graph that has not as many skip connections.
    """

    branch: int
    shallow: bool

    @property
    def key(self) -> Any:
        return ["cut", self.branch, self.shallow]

    def openvino(self, model: Any) -> Any:
        from openvino import opset13 as opset

        features = _join(openvino_joins(model), self).input(0).get_source_output()
        # Kept as they were before a quantizer: the shallow graph has its own, and can then go on
        # in integers.
        while features.get_node().get_type_name() in QUANTIZING:
            features = features.get_node().input(0).get_source_output()
        if self.shallow:
            taken = opset.parameter(
                features.get_partial_shape(), features.get_element_type(), DEEP_FEATURES
            )
            taken.output(0).set_names({DEEP_FEATURES})
            features.replace(taken.output(0))
            model.add_parameters([taken])
        else:
            features.set_names({DEEP_FEATURES})
            model.add_outputs(features)
        model.validate_nodes_and_infer_types()
        return model

    def onnx(self, graph: OnnxGraph) -> OnnxGraph:
        nodes = [Node.parse(value) for number, _, value, _ in graph.fields() if number == NODE]
        join = _join(list(onnx_joins(graph.graph)), self)
        features = unquantized(join.inputs[0], makers_of(nodes))
        declaration = declared(DEEP_FEATURES, _ANY_SHAPE, element_type(graph.graph))
        parts: list[bytes | memoryview]
        if self.shallow:
            # Nodes stand in order of execution: this one before all that read it.
            parts = [protobuf.field(NODE, _renaming(DEEP_FEATURES, features))]
            parts += [*_above(graph, nodes, features), protobuf.field(INPUT, declaration)]
        else:
            named = protobuf.field(NODE, _renaming(features, DEEP_FEATURES))
            parts = [graph.graph, named, protobuf.field(OUTPUT, declaration)]
        return graph.rewritten(parts)


def _join(joins: Sequence[Join], cut: Cut) -> Join:
    if cut.branch >= len(joins):
        raise AdapterError(
            f"cache_branch is {cut.branch}; this UNet has {len(joins)} skip connections to cut it "
            f"at: give 0 to {len(joins) - 1}"
        )
    return joins[-1 - cut.branch]


def _above(graph: OnnxGraph, nodes: Sequence[Node], features: str) -> list[memoryview]:
    """The fields of a GraphProto without what only the features need."""
    needed = {_first_text(value) for number, _, value, _ in graph.fields() if number == OUTPUT}
    kept = set()
    for i, node in reversed(list(enumerate(nodes))):
        if features not in node.outputs and needed & set(node.outputs):
            kept.add(i)
            needed |= set(node.inputs)
    parts, index = [], 0
    for number, _, value, field in graph.fields():
        if number == NODE:
            stays, index = index in kept, index + 1
        elif number == INITIALIZER:
            stays = tensor_name(value) in needed
        else:
            stays = number != BETWEEN  # shapes, which engines find by themselves
        if stays:
            parts.append(field)
    return parts


def _renaming(old: str, new: str) -> bytes:
    fields = [(NODE_INPUT, old), (NODE_OUTPUT, new), (OPERATOR, "Identity")]
    return b"".join(protobuf.field(number, text.encode()) for number, text in fields)


def _first_text(declaration: memoryview) -> str:
    return next(
        protobuf.text(value)
        for number, _, value, _ in protobuf.fields(declaration)
        if number == _NAME
    )
