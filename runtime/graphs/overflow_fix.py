"""8-bit weights with which no intermediate sum of 16 bits saturates.

x86 processors without VNNI multiply unsigned by signed bytes and add two neighbouring products in
16 bits (`vpmaddubsw`), where 255 * 127 twice is cut to 32767 without a word. Channels whose weights
allow that are rounded to coarser steps, just coarse enough that no pair can reach it. NNCF's
overflow fix, half of the range for all weights, loses three decibels more (docs/decisions/0035).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .onnx_graph import OnnxGraph

_LARGEST_SUM = 32767 // 255  # of two weights of one sign, times the largest byte
# What stands between a rounding and the product of what was rounded.
_PASSED = {"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Convert", "Subtract", "Multiply"}


@dataclass(frozen=True)
class OverflowFix:
    """Weights that meet activations of 8 bits are rounded anew; those of weights alone stay.

    For OpenVINO; ONNX Runtime has a setting of its own, which its engine takes.
    """

    @property
    def key(self) -> None:
        """The new weights are in no file, so that a kept graph could not find them again."""

    def openvino(self, model: Any) -> Any:
        for weight in list(_weights(model)):
            _replace(weight)
        model.validate_nodes_and_infer_types()
        return model

    def onnx(self, graph: OnnxGraph) -> OnnxGraph:
        return graph


@dataclass(frozen=True)
class _Weight:
    """An 8-bit constant, the product with its steps, and the axes of its channels."""

    constant: Any
    scaled: Any
    inputs: int
    outputs: int


def bounded(weights: NDArray[np.int8]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Weights (outputs, inputs, …) whose pairs of neighbouring inputs sum up to 128 at most.

    Also the factor that each output's steps are to be multiplied by; 1 where nothing had to change.
    """
    flat = weights.reshape(*weights.shape[:2], -1).astype(np.int16)
    if flat.shape[1] % 2:
        flat = np.pad(flat, ((0, 0), (0, 1), (0, 0)))
    first, second = flat[:, ::2], flat[:, 1::2]
    above = np.maximum(first, 0) + np.maximum(second, 0)
    below = np.minimum(first, 0) + np.minimum(second, 0)
    largest = np.maximum(above.max((1, 2)), -below.min((1, 2)))
    # Of two halves rounded up their sum may be one more.
    factors = np.where(largest > _LARGEST_SUM, largest / (_LARGEST_SUM - 1), 1).astype(np.float32)
    aligned = factors.reshape(-1, *[1] * (weights.ndim - 1))
    return np.rint(weights / aligned).astype(np.int8), factors


def _weights(model: Any) -> Iterator[_Weight]:
    for op in model.get_ordered_ops():
        axes = _axes(op)
        if axes is None or not _rounded(_source(op, 0)):
            continue
        scaled = _source(op, 1)
        constant = _stored(scaled) if scaled.get_type_name() == "Multiply" else None
        if constant is not None:
            yield _Weight(constant, scaled, *axes)


def _axes(op: Any) -> tuple[int, int] | None:
    """The axes of an operation's weights that hold its input and its output channels."""
    kind = op.get_type_name()
    if kind == "Convolution":
        return 1, 0
    if kind == "ConvolutionBackpropData":
        return 0, 1
    if kind == "MatMul" and len(op.input(1).get_partial_shape()) == 2:
        return (1, 0) if op.get_attributes()["transpose_b"] else (0, 1)
    return None


def _rounded(node: Any) -> bool:
    """Whether values come from a rounding to 8 bits."""
    while node.get_type_name() in _PASSED:
        node = _source(node, 0)
    return bool(node.get_type_name() == "FakeQuantize")


def _stored(scaled: Any) -> Any | None:
    """The constant of signed bytes, with zero as zero, that a product gives their steps."""
    node = _source(scaled, 0)
    if node.get_type_name() == "Subtract":
        if _value(_source(node, 1)).any():
            return None
        node = _source(node, 0)
    while node.get_type_name() == "Convert":
        node = _source(node, 0)
    stored = node.get_type_name() == "Constant" and node.data.dtype == np.int8
    return node if stored else None


def _replace(weight: _Weight) -> None:
    from openvino import opset13 as opset

    order, stored = (weight.outputs, weight.inputs), weight.constant.data
    rounded, factors = bounded(np.moveaxis(stored, order, (0, 1)))
    if (factors == 1).all():
        return
    new = opset.constant(np.ascontiguousarray(np.moveaxis(rounded, (0, 1), order)))
    new.friendly_name = weight.constant.friendly_name
    weight.constant.output(0).replace(new.output(0))
    aligned = [1] * stored.ndim
    aligned[weight.outputs] = len(factors)
    steps = _value(_source(weight.scaled, 1)) * factors.reshape(aligned)
    weight.scaled.input(1).replace_source_output(opset.constant(steps).output(0))


def _value(node: Any) -> NDArray[np.float32]:
    """Of a constant, as it is stored or after conversions and reshapes."""
    shape = node.get_output_shape(0)
    while node.get_type_name() in ("Convert", "Reshape"):
        node = _source(node, 0)
    value: NDArray[np.float32] = node.data.astype(np.float32)
    return value.reshape(list(shape))


def _source(node: Any, index: int) -> Any:
    return node.input(index).get_source_output().get_node()
