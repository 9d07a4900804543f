"""A denoiser computed in half precision, as GPUs do it fastest.

Weights are stored so anyway, each behind a Cast to float32: those Casts go. Operators that lose
nothing visible take float16; every other one stays float32 between two Casts, norms among them,
and so does what timesteps go through before a sine is taken of them: near 999 float16 knows
neither 998.6 nor the products with small frequencies. Inputs and outputs stay float32.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from . import protobuf
from .joins import QUANTIZING, element_type, makers_of
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
    Tensor,
    integer_attribute,
    reading,
)

_FLOAT, _HALF, _OTHER = 1, 10, 0  # TensorProto.DataType
_NAME, _TYPE, _TENSOR, _ELEMENT = 1, 2, 1, 1  # of ValueInfoProto, TypeProto, TypeProto.Tensor
_ATTRIBUTE, _ATTRIBUTE_NAME, _NUMBER, _VALUE, _NUMBERS = 5, 1, 2, 5, 7  # NodeProto, AttributeProto
_INTEGER, _KIND, _IS_INTEGER = 3, 20, 2  # of AttributeProto

_TIMESTEPS = {"timestep", "t"}
_COMPUTED_IN_HALF = {
    *("Conv", "ConvTranspose", "Gemm", "MatMul"),
    *("Add", "Div", "Mul", "Neg", "Sub"),
    *("Erf", "Gelu", "LeakyRelu", "Relu", "Sigmoid", "Softmax", "Tanh"),
    *("Concat", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Resize", "Slice"),
    *("Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Where"),
}
_OF_NO_FLOATS = {
    *("And", "ArgMax", "ArgMin", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less"),
    *("LessOrEqual", "NonZero", "Not", "Or", "Shape", "Size"),
}
_WITH_GRAPHS_INSIDE = {"If", "Loop", "Scan"}


@dataclass(frozen=True)
class HalfPrecision:
    """float16 for a denoiser or ControlNet; of ONNX graphs alone: OpenVINO has a hint for it.

    Graphs that are asked once a picture stay as they are (text encoders, VAE, safety checker: XL's
    VAE leaves the range of float16), and so do those in 8 bits and those in float16 already.
    """

    @property
    def key(self) -> Any:
        return "half precision"

    def openvino(self, model: Any) -> Any:
        return model

    def onnx(self, graph: OnnxGraph) -> OnnxGraph:
        with reading(graph.path):
            nodes = [Node.parse(value) for number, _, value, _ in graph.fields() if number == NODE]
            operators = {node.operator for node in nodes}
            inputs = {_declared(value)[0] for n, _, value, _ in graph.fields() if n == INPUT}
            if not inputs & _TIMESTEPS or element_type(graph.graph) == _HALF:
                return graph
            if operators & {*QUANTIZING, *_WITH_GRAPHS_INSIDE}:
                return graph
            return graph.rewritten(list(_Rewriting(graph, nodes).fields()))


@dataclass
class _Rewriting:
    """One pass over a graph's nodes, in order of execution.

    kinds: tensor -> its element type in the file, as far as it is float32 or float16.
    versions: float32 tensor of the file -> element type -> the tensor that now has its numbers.
    """

    graph: OnnxGraph
    nodes: list[Node]
    kinds: dict[str, int] = field(default_factory=dict)
    versions: dict[str, dict[int, str]] = field(default_factory=dict)

    def fields(self) -> Iterator[bytes | memoryview]:
        """Those of the new GraphProto; Casts that nobody reads any more are left out."""
        messages, ends = [], []
        for number, _, value, raw in self.graph.fields():
            if number in (INPUT, INITIALIZER):
                self._is_there(*_declared(value) if number == INPUT else _stored(value))
            if number == OUTPUT:
                ends.append(_declared(value)[0])
            if number == NODE:
                messages.append(value)
            elif number != BETWEEN:  # types, of which half are others now; engines find them
                yield raw
        for message, node in zip(messages, self.nodes, strict=True):
            self._infer(node, message)
        exact = set(_exact(self.nodes, self.kinds))
        for message, node in zip(messages, self.nodes, strict=True):
            yield from self._rewritten(node, message, ends, exact)

    def _is_there(self, name: str, kind: int) -> None:
        self.kinds[name] = kind
        if kind == _FLOAT:
            self.versions[name] = {_FLOAT: name}

    def _infer(self, node: Node, message: memoryview) -> None:
        kind = _kind(node, message, self.kinds)
        self.kinds.update(dict.fromkeys(filter(None, node.outputs), kind))

    def _rewritten(
        self, node: Node, message: memoryview, ends: Collection[str], exact: Set[str]
    ) -> Iterator[bytes]:
        """The node on tensors of one precision, after the Casts that it needs."""
        if node.operator == "Cast" and self.kinds.get(node.inputs[0]) == _HALF:
            [name] = node.outputs
            if self.kinds[name] == _FLOAT and name not in ends:
                self.versions[name] = {_HALF: node.inputs[0]}
                return
        computes = _HALF if node.operator in _COMPUTED_IN_HALF else _FLOAT
        if not exact.isdisjoint(node.outputs):
            computes = _FLOAT
        read = []
        for i, name in enumerate(node.inputs):
            stays = node.operator in ("Resize", "Cast") and (i > 0 or node.operator == "Cast")
            yield from self._casts(name, _FLOAT if stays else computes)
            read.append(self._version(name, _FLOAT if stays else computes))
        made = [self._made(name, computes, ends) for name in node.outputs]
        yield protobuf.field(NODE, _renamed(message, read, made))
        for name in node.outputs:
            if name in ends and self.kinds[name] == _FLOAT and computes == _HALF:
                yield protobuf.field(NODE, _cast(self.versions[name][_HALF], name, _FLOAT))
                self.versions[name][_FLOAT] = name

    def _casts(self, name: str, wanted: int) -> Iterator[bytes]:
        """A Cast to a precision that a tensor is not there in yet."""
        versions = self.versions.get(name)
        if versions is not None and wanted not in versions:
            there = next(iter(versions.values()))
            versions[wanted] = f"{name}/{'half' if wanted == _HALF else 'float'}"
            yield protobuf.field(NODE, _cast(there, versions[wanted], wanted))

    def _version(self, name: str, wanted: int) -> str:
        return self.versions[name][wanted] if name in self.versions else name

    def _made(self, name: str, computes: int, ends: Collection[str]) -> str:
        """What a node's output is called now; one of the graph's own keeps its name for the end."""
        if self.kinds.get(name) != _FLOAT:  # an output that is not wanted has no name
            return name
        called = f"{name}/half" if computes == _HALF and name in ends else name
        self.versions[name] = {computes: called}
        return called


def _exact(nodes: list[Node], kinds: Mapping[str, int]) -> Iterator[str]:
    """The float tensors that sines and the sizes of upsamplers are computed from."""
    makers = makers_of(nodes)
    waiting = [name for node in nodes for name in _sensitive(node)]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or kinds.get(name) != _FLOAT:
            continue
        seen.add(name)
        yield name
        waiting += makers[name].inputs if name in makers else ()


def _sensitive(node: Node) -> Iterable[str]:
    if node.operator in ("Sin", "Cos"):
        return node.inputs
    return node.inputs[1:] if node.operator == "Resize" else ()


def _kind(node: Node, message: memoryview, kinds: Mapping[str, int]) -> int:
    """The element type of what a node gives: most give what they are given."""
    if node.operator in _OF_NO_FLOATS:
        return _OTHER
    if node.operator == "Cast":
        return integer_attribute(message) or _OTHER
    if node.operator in ("Constant", "ConstantOfShape"):
        return _constant(node, message)
    if node.operator == "Where":
        return kinds.get(node.inputs[1], _OTHER)
    return kinds.get(node.inputs[0], _OTHER) if node.inputs else _FLOAT


def _constant(node: Node, message: memoryview) -> int:
    attributes = [value for number, _, value, _ in protobuf.fields(message) if number == _ATTRIBUTE]
    for attribute in attributes:
        for number, _, value, _ in protobuf.fields(attribute):
            if number == _VALUE:
                return Tensor.parse(value).type
            if number in (_NUMBER, _NUMBERS):
                return _FLOAT
    return _OTHER if attributes or node.operator == "Constant" else _FLOAT


def _declared(message: memoryview) -> tuple[str, int]:
    """Name and element type of a ValueInfoProto."""
    facts = {number: value for number, _, value, _ in protobuf.fields(message)}
    tensor = {number: value for number, _, value, _ in protobuf.fields(facts[_TYPE])}[_TENSOR]
    element = {number: value for number, _, value, _ in protobuf.fields(tensor)}[_ELEMENT]
    return protobuf.text(facts[_NAME]), int(element)


def _stored(message: memoryview) -> tuple[str, int]:
    """Name and element type of an initializer."""
    tensor = Tensor.parse(message)
    return tensor.name, tensor.type


def _renamed(message: memoryview, read: Iterable[str], made: Iterable[str]) -> bytes:
    """A NodeProto that reads and gives tensors of other names."""
    ends = {NODE_INPUT, NODE_OUTPUT}
    rest = [raw for number, _, _, raw in protobuf.fields(message) if number not in ends]
    inputs = [protobuf.field(NODE_INPUT, name.encode()) for name in read]
    return b"".join([*inputs, *(protobuf.field(NODE_OUTPUT, n.encode()) for n in made), *rest])


def _cast(source: str, made: str, element: int) -> bytes:
    to = protobuf.field(_ATTRIBUTE_NAME, b"to") + protobuf.integer(_INTEGER, element)
    return b"".join(
        [
            protobuf.field(NODE_INPUT, source.encode()),
            protobuf.field(NODE_OUTPUT, made.encode()),
            protobuf.field(OPERATOR, b"Cast"),
            protobuf.field(_ATTRIBUTE, to + protobuf.integer(_KIND, _IS_INTEGER)),
        ]
    )
