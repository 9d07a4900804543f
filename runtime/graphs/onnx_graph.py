"""An ONNX file taken apart and put together again, without the `onnx` package.

Only four of protobuf's messages matter (onnx.proto): a ModelProto holds a GraphProto, which holds
NodeProtos and, as initializers, TensorProtos. Whatever is not changed is copied as it is.
"""

import contextlib
import math
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import AdapterError, shown
from . import protobuf

Array = NDArray[Any]

GRAPH = 7  # of ModelProto
NODE, INITIALIZER, INPUT, OUTPUT, BETWEEN = 1, 5, 11, 12, 13  # of GraphProto
NODE_INPUT, NODE_OUTPUT, _NODE_NAME, OPERATOR = 1, 2, 3, 4  # of NodeProto
_DIMS, _TYPE, _FLOATS, _NAME, _RAW, _EXTERNAL, _LOCATION = 1, 2, 4, 8, 9, 13, 14  # of TensorProto
_KEY, _VALUE = 1, 2  # of StringStringEntryProto
_ATTRIBUTE, _INTEGER = 5, 3  # of NodeProto, of AttributeProto

_HALF = 10
ELEMENT_TYPES = {
    1: "<f4",
    _HALF: "<f2",
    11: "<f8",
    2: "u1",
    3: "i1",
    6: "<i4",
}  # TensorProto.DataType


@dataclass(frozen=True)
class OnnxGraph:
    """A graph for `onnxruntime.InferenceSession(content, options)`.

    content: the model's bytes.
    path: of the file; what it keeps outside itself lies beside it.
    weights: changed ones, by initializer, whose stub in the content says "my data lie elsewhere";
        so a weight may change its shape, and no graph grows past protobuf's 2 GB. They must live
        as long as the session.
    """

    content: bytes | memoryview
    path: Path
    weights: Mapping[str, Array] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> "OnnxGraph":
        """The file, mapped; AdapterError where it is no ONNX graph."""
        with reading(path):
            if not path.is_file():
                raise ValueError("it is no regular file")
            content = np.memmap(path, np.uint8, "r").data
            message(content, GRAPH)
        return cls(content, path)

    @property
    def graph(self) -> memoryview:
        """The GraphProto."""
        return message(memoryview(self.content), GRAPH)

    def fields(self) -> Iterator[tuple[int, int, Any, memoryview]]:
        """Those of the GraphProto."""
        return protobuf.fields(self.graph)

    def rewritten(self, parts: list[bytes | memoryview]) -> "OnnxGraph":
        """The same model with a GraphProto of these fields, which may lack some initializers."""
        model = protobuf.fields(memoryview(self.content))
        rest = [raw for number, _, _, raw in model if number != GRAPH]
        content = b"".join([*rest, protobuf.field(GRAPH, b"".join(parts))])
        left = OnnxGraph(content, self.path)
        if not self.weights:
            return left
        names = {
            tensor_name(value) for number, _, value, _ in left.fields() if number == INITIALIZER
        }
        kept = {name: weight for name, weight in self.weights.items() if name in names}
        return OnnxGraph(content, self.path, kept)

    def hand_to(self, options: Any) -> None:
        """Give the changed weights to onnxruntime.SessionOptions."""
        from onnxruntime import OrtValue

        with reading(self.path):
            for number, _, value, _ in self.fields():
                if number == INITIALIZER:
                    Tensor.parse(value).require_inside(self.path, self.weights)
        values = [OrtValue.ortvalue_from_numpy(weight) for weight in self.weights.values()]
        options.add_external_initializers(list(self.weights), values)
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(self.path.parent)
        )


@dataclass
class Tensor:
    """An initializer."""

    message: memoryview
    name: str = ""
    type: int = 0
    dims: list[int] = field(default_factory=list)
    external: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, message: memoryview) -> "Tensor":
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

    def require_inside(self, model: Path, weights: Container[str] = ()) -> None:
        """Raise ValueError where the numbers lie outside the folder of the model's file.

        weights: initializers that are given from memory, whose location means nothing.
        """
        if self.external and self.name not in weights:
            _beside(model, self.external.get("location", ""))

    def values(self, model: Path) -> Array:
        """The numbers, some of which may lie beside the file `model`.

        ValueError where they are of no type that weights have, or in no regular file there.
        """
        if self.type not in ELEMENT_TYPES:
            raise ValueError(f"it is stored as ONNX type {self.type}")
        dtype = np.dtype(ELEMENT_TYPES[self.type])
        if self.external:
            file = _beside(model, self.external.get("location", ""))
            offset, size = int(self.external.get("offset", 0)), math.prod(self.dims)
            if offset < 0 or offset + size * dtype.itemsize > file.stat().st_size:
                raise ValueError(f"{file.name} is too short for it")
            return np.memmap(file, dtype, "r", offset, (size,)).reshape(self.dims)
        data = {number: value for number, _, value, _ in protobuf.fields(self.message)}
        if _RAW not in data and _FLOATS not in data:
            raise ValueError("it holds no raw numbers")
        return np.frombuffer(data[_RAW if _RAW in data else _FLOATS], dtype).reshape(self.dims)

    @property
    def widened(self) -> int:
        """Bytes as CPUs compute with it: half precision as float32."""
        widths = {kind: np.dtype(name).itemsize for kind, name in ELEMENT_TYPES.items()} | {
            _HALF: 4
        }
        # What is of no kind that weights are of is an index or a shape: a few numbers.
        return math.prod(self.dims) * widths.get(self.type, 8)

    def stub(self, shape: tuple[int, ...]) -> bytes:
        """A tensor of this name and a shape whose data lie elsewhere."""
        fields = protobuf.fields(self.message)
        kept = [raw for number, _, _, raw in fields if number in (_TYPE, _NAME)]
        dims = [protobuf.integer(_DIMS, size) for size in shape]
        elsewhere = protobuf.field(_KEY, b"location") + protobuf.field(_VALUE, b"*in memory*")
        location = protobuf.integer(_LOCATION, 1)  # EXTERNAL
        return b"".join([*kept, *dims, protobuf.field(_EXTERNAL, elsewhere), location])


class Node(NamedTuple):
    """A node, without its attributes."""

    name: str = ""
    operator: str = ""
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    @classmethod
    def parse(cls, message: memoryview) -> "Node":
        texts: dict[int, list[str]] = {
            NODE_INPUT: [],
            NODE_OUTPUT: [],
            _NODE_NAME: [],
            OPERATOR: [],
        }
        for number, _, value, _ in protobuf.fields(message):
            if number in texts:
                texts[number].append(protobuf.text(value))
        name, operator = "".join(texts[_NODE_NAME]), "".join(texts[OPERATOR])
        return cls(name, operator, tuple(texts[NODE_INPUT]), tuple(texts[NODE_OUTPUT]))


def integer_attribute(node: memoryview) -> int | None:
    """The number that a NodeProto's first attribute is: Cast and Concat have no other."""
    for number, _, attribute, _ in protobuf.fields(node):
        if number == _ATTRIBUTE:
            return next((n for i, _, n, _ in protobuf.fields(attribute) if i == _INTEGER), None)
    return None


def written(name: str, values: Array, element: int) -> bytes:
    """A TensorProto with these numbers, whose ONNX type is `element`."""
    dims = [protobuf.integer(_DIMS, size) for size in values.shape]
    named = protobuf.integer(_TYPE, element) + protobuf.field(_NAME, name.encode())
    return b"".join([*dims, named, protobuf.field(_RAW, values.tobytes())])


def tensor_name(initializer: memoryview) -> str:
    """The name of a TensorProto; its numbers are not looked at."""
    return Tensor.parse(initializer).name


def message(content: memoryview, wanted: int) -> memoryview:
    """The first message of that field number; ValueError where there is none."""
    for number, _, value, _ in protobuf.fields(content):
        if number == wanted and isinstance(value, memoryview):
            return value
    raise ValueError("it holds no graph")


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what taking a damaged graph apart raises into an AdapterError that names its file."""
    try:
        yield
    except (OSError, ValueError, LookupError, StopIteration, OverflowError, RuntimeError) as error:
        raise not_whole(path, error) from error


def _beside(model: Path, location: str) -> Path:
    """A file of numbers in the model's folder, by the name that the model gives it.

    A model may be a stranger's: a path that leaves the folder, by its name or by a link, would read
    any file of this machine. The hub's cache keeps models as links into one folder of contents, so
    what stands beside the file that a model is a link to counts as beside it, too.
    """
    file = model.parent / location
    folders = {model.parent.resolve(), model.resolve().parent}
    if not location or Path(location).is_absolute() or ".." in Path(location).parts:
        raise ValueError(f"it names {shown(location)!r} outside the model's folder")
    if not any(file.resolve().is_relative_to(folder) for folder in folders):
        raise ValueError(f"its {shown(location)} is a link that leaves the model's folder")
    if not file.is_file():
        raise ValueError(f"its {shown(location)} is missing, or no regular file")
    return file


def not_whole(path: Path, error: Exception) -> AdapterError:
    return AdapterError(
        f"{path}: not a whole ONNX graph ({shown(str(error), 200)}); export it anew"
    )
