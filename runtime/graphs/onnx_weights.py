"""The weights of an ONNX file, found by PyTorch's names and replaced, without the `onnx` package.

Only four of protobuf's messages matter (onnx.proto): a ModelProto holds a GraphProto, which holds
NodeProtos and, as initializers, TensorProtos. Whatever is not changed is copied as it is.

A replaced weight becomes a stub that says "my data lie elsewhere", and the data are handed to ONNX
Runtime beside the graph. So a weight may change its shape, and no graph grows past protobuf's 2 GB.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import AdapterError
from . import protobuf
from .weights import Changes, Shapes, changed, parameter_name

Array = NDArray[Any]

_GRAPH = 7  # of ModelProto
_NODE, _INITIALIZER = 1, 5  # of GraphProto
_INPUT, _OUTPUT, _NODE_NAME, _OPERATOR = 1, 2, 3, 4  # of NodeProto
_DIMS, _TYPE, _FLOATS, _NAME, _RAW, _EXTERNAL, _LOCATION = 1, 2, 4, 8, 9, 13, 14  # of TensorProto
_KEY, _VALUE = 1, 2  # of StringStringEntryProto

_HALF = 10
_TYPES = {1: "<f4", _HALF: "<f2", 11: "<f8", 2: "u1", 3: "i1"}  # TensorProto.DataType


@dataclass(frozen=True)
class PatchedGraph:
    """A changed graph for `onnxruntime.InferenceSession(content, options)`.

    content: the model's bytes.
    weights: the changed ones, by initializer; they must live as long as the session.
    folder: where the data lie that the file keeps outside itself.
    """

    content: bytes
    weights: dict[str, Array]
    folder: Path

    def hand_to(self, options: Any) -> None:
        """Give the weights to onnxruntime.SessionOptions."""
        from onnxruntime import OrtValue

        values = [OrtValue.ortvalue_from_numpy(weight) for weight in self.weights.values()]
        options.add_external_initializers(list(self.weights), values)
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(self.folder)
        )

    def rewritten(self, content: bytes) -> "PatchedGraph":
        """The same with another content, which may have lost some of the weights."""
        graph = _message(memoryview(content), _GRAPH)
        left = {
            tensor_name(value)
            for number, _, value, _ in protobuf.fields(graph)
            if number == _INITIALIZER
        }
        weights = {name: weight for name, weight in self.weights.items() if name in left}
        return PatchedGraph(content, weights, self.folder)


def shapes(path: Path) -> Shapes:
    """The named weights of an ONNX file in PyTorch's layout; their data are not read."""
    found = _read(path)
    return {
        name: tuple(tensor.dims[::-1] if transposed else tensor.dims)
        for name, (tensor, transposed) in found.items()
    }


def weights(path: Path) -> int:
    """Bytes of all initializers, those in half precision as float32; none is loaded."""
    try:
        graph = _message(_mapped(path), _GRAPH)
        tensors = [_Tensor.parse(v) for n, _, v, _ in protobuf.fields(graph) if n == _INITIALIZER]
    except (OSError, ValueError, IndexError) as error:
        raise AdapterError(f"{path}: not a whole ONNX graph ({error}); export it anew") from error
    widths = {kind: np.dtype(name).itemsize for kind, name in _TYPES.items()} | {_HALF: 4}
    # What is of no kind that weights are of is an index or a shape: a few numbers.
    return sum(math.prod(tensor.dims) * widths.get(tensor.type, 8) for tensor in tensors)


def patch(path: Path, changes: Changes) -> PatchedGraph:
    """The graph with changed weights; each keeps the number type it is stored in.

    Raises AdapterError where the file is no ONNX graph, a weight is not there or is quantized.
    """
    named = _read(path)
    weights = {}
    for name, change in changes.items():
        if name not in named:
            raise AdapterError(f"{path}: has no weight {name}; export the model anew")
        tensor, transposed = named[name]
        try:
            stored = tensor.values(path.parent)
        except (OSError, ValueError) as error:
            raise AdapterError(f"{path}: unreadable weight {name}: {error}") from error
        weights[tensor.name] = changed(name, stored, transposed, change)
    return PatchedGraph(_rewritten(_mapped(path), weights), weights, path.parent)


@dataclass
class _Tensor:
    """An initializer."""

    message: memoryview
    name: str = ""
    type: int = 0
    dims: list[int] = field(default_factory=list)
    external: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, message: memoryview) -> "_Tensor":
        tensor = cls(message)
        for number, wire, value, _ in protobuf.fields(message):
            if number == _NAME:
                tensor.name = protobuf.text(value)
            elif number == _TYPE:
                tensor.type = value
            elif number == _DIMS:
                tensor.dims += [value] if wire == protobuf.VARINT else protobuf.varints(value)
            elif number == _EXTERNAL:
                entry = {key: protobuf.text(text) for key, _, text, _ in protobuf.fields(value)}
                tensor.external[entry[_KEY]] = entry.get(_VALUE, "")
        return tensor

    def values(self, folder: Path) -> Array:
        if self.type not in _TYPES:
            raise ValueError(f"it is stored as ONNX type {self.type}")
        dtype = np.dtype(_TYPES[self.type])
        if self.external:
            count = int(np.prod(self.dims))
            offset = int(self.external.get("offset", 0))
            file = folder / self.external["location"]
            return np.memmap(file, dtype, "r", offset, (count,)).reshape(self.dims)
        data = {number: value for number, _, value, _ in protobuf.fields(self.message)}
        if _RAW not in data and _FLOATS not in data:
            raise ValueError("it holds no raw numbers")
        return np.frombuffer(data[_RAW if _RAW in data else _FLOATS], dtype).reshape(self.dims)


def tensor_name(initializer: memoryview) -> str:
    """The name of a TensorProto; its numbers are not looked at."""
    return _Tensor.parse(initializer).name


def _read(path: Path) -> dict[str, tuple[_Tensor, bool]]:
    """Parameter name -> its initializer, and whether that is transposed."""
    try:
        return _named(_message(_mapped(path), _GRAPH))
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise AdapterError(f"{path}: not a whole ONNX graph ({error}); export it anew") from error


def _named(graph: memoryview) -> dict[str, tuple[_Tensor, bool]]:
    tensors, nodes = [], []
    for number, _, value, _ in protobuf.fields(graph):
        if number == _INITIALIZER:
            tensors.append(_Tensor.parse(value))
        elif number == _NODE:
            nodes.append(Node.parse(value))
    casts = {
        name: node.outputs[0] for node in nodes if node.operator == "Cast" for name in node.inputs
    }
    readers = {name: node for node in nodes for name in node.inputs}
    found = {}
    for tensor in tensors:
        reader = readers.get(casts.get(tensor.name, tensor.name), Node())
        meant = parameter_name(tensor.name, reader.name, reader.operator)
        if meant is not None:
            found[meant[0]] = tensor, meant[1]
    return found


class Node(NamedTuple):
    """A node, without its attributes."""

    name: str = ""
    operator: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    @classmethod
    def parse(cls, message: memoryview) -> "Node":
        texts: dict[int, list[str]] = {_INPUT: [], _OUTPUT: [], _NODE_NAME: [], _OPERATOR: []}
        for number, _, value, _ in protobuf.fields(message):
            if number in texts:
                texts[number].append(protobuf.text(value))
        name, operator = "".join(texts[_NODE_NAME]), "".join(texts[_OPERATOR])
        return cls(name, operator, tuple(texts[_INPUT]), tuple(texts[_OUTPUT]))


def _rewritten(model: memoryview, weights: dict[str, Array]) -> bytes:
    """The model with stubs for these initializers."""
    graph: list[bytes | memoryview] = []
    for number, _, value, whole in protobuf.fields(_message(model, _GRAPH)):
        weight = weights.get(_Tensor.parse(value).name) if number == _INITIALIZER else None
        stub = None if weight is None else protobuf.field(_INITIALIZER, _stub(value, weight))
        graph.append(stub or whole)
    rest = [whole for number, _, _, whole in protobuf.fields(model) if number != _GRAPH]
    return b"".join([*rest, protobuf.field(_GRAPH, b"".join(graph))])


def _stub(message: memoryview, weight: Array) -> bytes:
    """A tensor of the weight's shape whose data lie elsewhere; ONNX Runtime is handed them."""
    kept = [whole for number, _, _, whole in protobuf.fields(message) if number in (_TYPE, _NAME)]
    dims = [protobuf.integer(_DIMS, size) for size in weight.shape]
    elsewhere = protobuf.field(_KEY, b"location") + protobuf.field(_VALUE, b"*in memory*")
    location = protobuf.integer(_LOCATION, 1)  # EXTERNAL
    return b"".join([*kept, *dims, protobuf.field(_EXTERNAL, elsewhere), location])


def _mapped(path: Path) -> memoryview:
    return np.memmap(path, np.uint8, "r").data


def _message(message: memoryview, wanted: int) -> memoryview:
    for number, _, value, _ in protobuf.fields(message):
        if number == wanted:
            assert isinstance(value, memoryview)
            return value
    raise ValueError("it holds no graph")
