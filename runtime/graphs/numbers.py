"""Whether the weights of a graph are numbers: looked at when what it computes is none."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import PleinairError
from . import ir
from .mapped import alone
from .onnx_graph import INITIALIZER, OnnxGraph, Tensor

_TYPES = {"f16": "<f2", "f32": "<f4", "f64": "<f8", "bf16": "<u2"}
_AT_ONCE = 1 << 22  # values


def broken(path: Path) -> Path | None:
    """The file of a graph's weights where one of them is no number, or infinite; else None.

    Masks may be -infinity. What cannot be read is not judged.
    """
    try:
        if path.suffix == ".onnx":
            return path if any(map(_any_broken, _onnx_weights(path))) else None
        weights = path.with_suffix(".bin")
        with alone(weights):
            return weights if any(map(_any_broken, _ir_weights(path, weights))) else None
    except (PleinairError, OSError, ValueError, KeyError, IndexError):
        return None


def _ir_weights(graph: Path, file: Path) -> Iterator[NDArray[Any]]:
    content = np.memmap(file, np.uint8, "r")
    for constant in ir.constants(ir.read(graph)):
        if constant.kind in _TYPES and constant.size:
            stored = content[constant.offset : constant.end].view(_TYPES[constant.kind])
            if constant.kind == "bf16":  # the upper half of a float32
                stored = (stored.astype(np.uint32) << 16).view(np.float32)
            yield stored


def _onnx_weights(path: Path) -> Iterator[NDArray[Any]]:
    for number, _, value, _ in OnnxGraph.open(path).fields():
        if number == INITIALIZER:
            try:
                stored = Tensor.parse(value).values(path.parent)
            except ValueError:  # indices, or shapes
                continue
            if stored.dtype.kind == "f":
                yield stored.ravel()


def _any_broken(weights: NDArray[Any]) -> bool:
    for begin in range(0, len(weights), _AT_ONCE):
        some = weights[begin : begin + _AT_ONCE]
        if (np.isnan(some) | np.isposinf(some)).any():
            return True
    return False
