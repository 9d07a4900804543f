"""The inputs of a graph's file, read without an engine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import AdapterError, BundleError
from . import ir, protobuf
from .ir import Shape
from .onnx_graph import INITIALIZER, INPUT, OnnxGraph, tensor_name

# Of ValueInfoProto, TypeProto, TypeProto.Tensor, TensorShapeProto and its Dimension.
_NAME, _TYPE = 1, 2
_WANTED = {INITIALIZER, INPUT}
_TENSOR, _SHAPE, _DIMENSION, _SIZE = 1, 2, 1, 1


def inputs(path: Path) -> dict[str, Shape | None]:
    """Name -> shape of a graph's inputs; BundleError where the file is none.

    None is any size, or in place of a shape any shape.
    """
    if path.suffix != ".onnx":
        return ir.inputs(ir.read(path))
    try:
        fields = [field for field in _fields(OnnxGraph.open(path).graph) if field[0] in _WANTED]
        found = dict(_onnx_input(value) for number, value in fields if number == INPUT)
        # Older files list their weights among the inputs, too.
        weights = {tensor_name(value) for number, value in fields if number == INITIALIZER}
    except AdapterError as error:
        raise BundleError(str(error)) from error
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise BundleError(f"{path}: not a whole ONNX graph ({error}); export it anew") from error
    return {name: shape for name, shape in found.items() if name not in weights}


def _fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    return ((number, value) for number, _, value, _ in protobuf.fields(message))


def _onnx_input(message: memoryview) -> tuple[str, Shape | None]:
    """Name and shape that a ValueInfoProto states."""
    facts = dict(_fields(message))
    tensor = dict(_fields(dict(_fields(facts[_TYPE]))[_TENSOR]))
    if _SHAPE not in tensor:
        return protobuf.text(facts[_NAME]), None
    dimensions = [dict(_fields(value)) for n, value in _fields(tensor[_SHAPE]) if n == _DIMENSION]
    return protobuf.text(facts[_NAME]), tuple(d.get(_SIZE) for d in dimensions)
