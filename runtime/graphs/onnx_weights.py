"""The weights of an ONNX file, found by PyTorch's names and replaced."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import AdapterError
from . import protobuf
from .changes import (
    BIAS,
    Changes,
    Held,
    Shapes,
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
class _Weight:
    """An initializer, the nodes that read it, and the ONNX type that they compute in."""

    tensor: Tensor
    held: Held
    readers: tuple[Node, ...]
    computed: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.held.shape(tuple(self.tensor.dims))


def shapes(path: Path) -> Shapes:
    """The named weights of an ONNX file in PyTorch's layout; their data are not read."""
    graph = OnnxGraph.open(path)
    with reading(path):
        return {name: weight.shape for name, weight in _named(graph).items()}


def widened_bytes(path: Path) -> int:
    """Bytes of all initializers, those in half precision as float32; none is loaded."""
    graph = OnnxGraph.open(path)
    with reading(path):
        return sum(tensor.widened for tensor in _tensors(graph))


def change(graph: OnnxGraph, changes: Changes) -> OnnxGraph:
    """The graph with changed weights; each keeps the number type it is stored in.

    Raises AdapterError where a weight is not there or is quantized.
    """
    with reading(graph.path):
        named = _named(graph)
    weights = dict(graph.weights)
    biases: dict[str, _Bias] = {}
    for name, made in changes.items():
        parameter = parameter_of(name)
        if parameter not in named:
            raise AdapterError(f"{graph.path}: has no weight {parameter}; export the model anew")
        weight = named[parameter]
        if name.endswith(BIAS):
            dtype = np.dtype(ELEMENT_TYPES[weight.computed])
            vector = added(weight.held, name, weight.shape[0], made, dtype)
            biases |= {
                reader.outputs[0]: _Bias(f"{reader.outputs[0]}/added", vector, weight)
                for reader in weight.readers
            }
            continue
        try:
            stored = weights.get(weight.tensor.name)  # of an edit before this one
            if stored is None:
                stored = weight.tensor.values(graph.path)
        except (OSError, ValueError) as error:
            raise AdapterError(f"{graph.path}: unreadable weight {name}: {error}") from error
        weights[weight.tensor.name] = changed(weight.held, stored, made)
    with reading(graph.path):
        changed_graph = OnnxGraph(graph.content, graph.path, weights)
        return changed_graph.rewritten(_parts(graph, weights, biases))


@dataclass(frozen=True)
class _Bias:
    """A vector that is added to what a node gives."""

    name: str
    vector: NDArray[Any]
    weight: _Weight

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


def _parts(
    graph: OnnxGraph, weights: Mapping[str, NDArray[Any]], biases: Mapping[str, _Bias]
) -> list[bytes | memoryview]:
    """The fields of the GraphProto, with stubs of the changed weights and the biases' sums."""
    parts: list[bytes | memoryview] = []
    for number, _, value, raw in graph.fields():
        stored_as = Tensor.parse(value) if number == INITIALIZER else None
        outputs = Node.parse(value).outputs if number == NODE and biases else ()
        if stored_as is not None and stored_as.name in weights:
            stub = stored_as.stub(weights[stored_as.name].shape)
            parts.append(protobuf.field(INITIALIZER, stub))
        elif outputs and outputs[0] in biases:
            parts += biases[outputs[0]].fields(value)
        else:
            parts.append(raw)
    return parts


def _called(node: Node) -> str:
    """The layer of a node; torch.onnx numbers further calls of a layer: "final_layer_norm_1"."""
    return re.sub(r"_\d+$", "", layer_path(node.name))


def _tensors(graph: OnnxGraph) -> Iterator[Tensor]:
    return (Tensor.parse(value) for number, _, value, _ in graph.fields() if number == INITIALIZER)


def _named(graph: OnnxGraph) -> dict[str, _Weight]:
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
    for tensor in _tensors(graph):
        name, computed = casts.get(tensor.name, (tensor.name, tensor.type))
        nodes = tuple(readers.get(name, ()))
        first = nodes[0] if nodes else Node()
        meant = held(tensor.name, first.name, first.operator)
        if meant is not None and len({_called(node) for node in nodes}) < 2:
            found[meant.name] = _Weight(tensor, meant, nodes, computed)
    return found
