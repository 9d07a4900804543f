"""The weights of an ONNX file, found by PyTorch's names and replaced."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import AdapterError
from . import protobuf
from .changes import (
    BIAS,
    Array,
    Change,
    Changes,
    Held,
    Shapes,
    Values,
    added,
    bias_shape,
    changed,
    held,
    layer_path,
    parameter_of,
)
from .onnx_graph import (
    ELEMENT_TYPES,
    INITIALIZER,
    NODE,
    NODE_INPUT,
    NODE_OUTPUT,
    OPERATOR,
    Node,
    OnnxGraph,
    Tensor,
    integer_attribute,
    reading,
    written,
)


@dataclass(frozen=True)
class Weight:
    """An initializer, the nodes that read it, and the ONNX type that they compute in."""

    tensor: Tensor
    held: Held
    readers: tuple[Node, ...]
    computed: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.held.shape(tuple(self.tensor.dims))

    def stored(self, graph: OnnxGraph) -> NDArray[Any]:
        """The numbers, of an edit before this one or of the file; AdapterError of neither."""
        if self.tensor.name in graph.weights:
            return graph.weights[self.tensor.name]
        try:
            return self.tensor.values(graph.path)
        except (OSError, ValueError) as error:
            raise AdapterError(
                f"{graph.path}: unreadable weight {self.held.name}: {error}"
            ) from error

    def added_to(self, name: str, made: Change) -> list["AddedBias"]:
        """What a changed bias adds to each result that the weight has a part in."""
        dtype = np.dtype(ELEMENT_TYPES[self.computed])
        vector = added(self.held, name, self.shape[0], made, dtype)
        return [AddedBias(reader, vector, self) for reader in self.readers]


def shapes(path: Path) -> Shapes:
    """The named weights of an ONNX file in PyTorch's layout; their data are not read."""
    graph = OnnxGraph.open(path)
    with reading(path):
        return {name: weight.shape for name, weight in named(graph).items()}


def values(path: Path) -> Values:
    """The numbers of the named weights of an ONNX file."""
    graph = OnnxGraph.open(path)
    with reading(path):
        found = named(graph)

    def value(name: str) -> Array:
        with reading(path):
            return found[name].held.unpacked(found[name].tensor.values(path))

    return value


def widened_bytes(path: Path) -> int:
    """Bytes of all initializers, those in half precision as float32; none is loaded."""
    graph = OnnxGraph.open(path)
    with reading(path):
        return sum(tensor.widened for tensor in tensors(graph))


def change(graph: OnnxGraph, changes: Changes) -> OnnxGraph:
    """The graph with changed weights; each keeps the number type it is stored in.

    Raises AdapterError where a weight is not there or is quantized.
    """
    with reading(graph.path):
        found = named(graph)
    weights = dict(graph.weights)
    biases: list[AddedBias] = []
    for name, made in changes.items():
        parameter = parameter_of(name)
        if parameter not in found:
            raise AdapterError(f"{graph.path}: has no weight {parameter}; export the model anew")
        weight = found[parameter]
        if name.endswith(BIAS):
            biases += weight.added_to(name, made)
            continue
        stored = weight.stored(graph)
        weights[weight.tensor.name] = changed(weight.held, stored, made)
    with reading(graph.path):
        changed_graph = OnnxGraph(graph.content, graph.path, weights)
        return changed_graph.rewritten(parts(graph, weights, biases))


@dataclass(frozen=True)
class AddedBias:
    """A vector that is added to what a node gives."""

    node: Node
    vector: NDArray[Any]
    weight: Weight

    @property
    def name(self) -> str:
        return f"{self.node.outputs[0]}/added"

    def fields(self, message: memoryview) -> list[bytes]:
        """Of the GraphProto: the node, whose output has another name, the sum, the vector."""
        node = Node.parse(message)
        shape = bias_shape(self.weight.held, node.operator, tuple(self.weight.tensor.dims))
        before = f"{node.outputs[0]}/before"
        outputs = [before, *node.outputs[1:]]
        rest = [raw for number, _, _, raw in protobuf.fields(message) if number != NODE_OUTPUT]
        renamed = [protobuf.field(NODE_OUTPUT, name.encode()) for name in outputs]
        ends = [(NODE_INPUT, before), (NODE_INPUT, self.name), (NODE_OUTPUT, node.outputs[0])]
        total = [protobuf.field(number, name.encode()) for number, name in ends]
        vector = written(self.name, self.vector.reshape(shape), self.weight.computed)
        return [
            protobuf.field(NODE, b"".join([*rest, *renamed])),
            protobuf.field(NODE, b"".join([*total, protobuf.field(OPERATOR, b"Add")])),
            protobuf.field(INITIALIZER, vector),
        ]


def parts(
    graph: OnnxGraph,
    weights: Mapping[str, NDArray[Any]],
    biases: Iterable[AddedBias],
    vectors: Mapping[str, NDArray[Any]] | None = None,
) -> list[bytes | memoryview]:
    """The fields of the GraphProto, with stubs of the changed weights and the biases' sums.

    vectors: initializers that are so small that they stand in the graph itself.
    """
    parts: list[bytes | memoryview] = []
    sums = {bias.node.outputs[0]: bias for bias in biases}
    vectors = vectors or {}
    for number, _, value, raw in graph.fields():
        stored_as = Tensor.parse(value) if number == INITIALIZER else None
        outputs = Node.parse(value).outputs if number == NODE and sums else ()
        if stored_as is not None and stored_as.name in weights:
            stub = stored_as.stub(weights[stored_as.name].shape)
            parts.append(protobuf.field(INITIALIZER, stub))
        elif stored_as is not None and stored_as.name in vectors:
            small = written(stored_as.name, vectors[stored_as.name], stored_as.type)
            parts.append(protobuf.field(INITIALIZER, small))
        elif outputs and outputs[0] in sums:
            parts += sums[outputs[0]].fields(value)
        else:
            parts.append(raw)
    return parts


def _called(node: Node) -> str:
    """The layer of a node; torch.onnx numbers further calls of a layer: "final_layer_norm_1"."""
    return re.sub(r"_\d+$", "", layer_path(node.name))


def tensors(graph: OnnxGraph) -> Iterator[Tensor]:
    return (Tensor.parse(value) for number, _, value, _ in graph.fields() if number == INITIALIZER)


def named(graph: OnnxGraph) -> dict[str, Weight]:
    """Parameter name -> its initializer.

    Exporters write equal numbers of several layers once; such an initializer is no single layer's,
    and left out.
    """
    readers: dict[str, list[Node]] = {}
    casts: dict[str, tuple[str, int]] = {}
    for number, _, value, _ in graph.fields():
        if number != NODE:
            continue
        node = Node.parse(value)
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
            if node.operator == "Cast":
                casts[name] = node.outputs[0], integer_attribute(value) or 0
    found = {}
    for tensor in tensors(graph):
        name, computed = casts.get(tensor.name, (tensor.name, tensor.type))
        nodes = tuple(readers.get(name, ()))
        first = nodes[0] if nodes else Node()
        meant = held(tensor.name, first.name, first.operator)
        if meant is not None and len({_called(node) for node in nodes}) < 2:
            found[meant.name] = Weight(tensor, meant, nodes, computed)
    return found
