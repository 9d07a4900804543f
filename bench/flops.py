"""How much arithmetic a graph is, from its operations and their shapes.

Counted are convolutions and matrix products, a multiplication and an addition as two operations;
norms, activations and the like are below one per cent of a Stable Diffusion network.
"""

import math
from dataclasses import dataclass
from typing import Any

# What only moves, scales or rounds numbers on their way into a product.
_PASSING = {
    *("Convert", "FakeQuantize", "Multiply", "Subtract"),
    *("Reshape", "Transpose", "Squeeze", "Unsqueeze"),
}


@dataclass(frozen=True)
class Flops:
    """Floating point operations, or as many in 8-bit integers.

    convolution; linear: products with weights; attention: products of two activations.
    int8: how many of all these are products of quantized numbers with quantized numbers.
    """

    convolution: int = 0
    linear: int = 0
    attention: int = 0
    int8: int = 0

    @property
    def total(self) -> int:
        return self.convolution + self.linear + self.attention


def count(model: Any) -> Flops:
    """Of an openvino.Model, read from IR or ONNX, whose shapes are fixed.

    Raises ValueError where a product's shape is not.
    """
    sums = dict.fromkeys(("convolution", "linear", "attention", "int8"), 0)
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind not in _COUNTS:
            continue
        try:
            flops = 2 * _COUNTS[kind](node)
        except RuntimeError as error:  # OpenVINO's own for a shape that is not known
            raise ValueError(f"{node.get_friendly_name()}: its shape is not fixed") from error
        sums[_class_of(node, kind)] += flops
        if kind != "ScaledDotProductAttention" and all(_is_quantized(node, i) for i in (0, 1)):
            sums["int8"] += flops
    return Flops(**sums)


def counted(model: Any) -> Flops | None:
    """The same, None where a product's shape is not fixed."""
    try:
        return count(model)
    except ValueError:
        return None


def _convolution(node: Any) -> int:
    """Multiplications: each output value is a sum over the kernel and its input channels.

    Weights are (out, in, …), of groups (groups, out, in, …): what is behind "out".
    """
    shape = list(node.input(1).get_shape())
    behind = 2 if node.get_type_name() == "GroupConvolution" else 1
    return math.prod(node.output(0).get_shape()) * math.prod(shape[behind:])


def _transposed(node: Any) -> int:
    """Each input value goes into all of a kernel: weights are (in, out, …), or of groups."""
    shape = list(node.input(1).get_shape())
    behind = 2 if node.get_type_name() == "GroupConvolutionBackpropData" else 1
    return math.prod(node.input(0).get_shape()) * math.prod(shape[behind:])


def _product(node: Any) -> int:
    first = list(node.input(0).get_shape())
    transposed = node.get_attributes()["transpose_a"] and len(first) > 1
    return math.prod(node.output(0).get_shape()) * first[-2 if transposed else -1]


def _attention(node: Any) -> int:
    """Queries with keys, (…, l, e) and (…, s, e), and the scores with values, (…, s, v)."""
    *many, queries, width = node.input(0).get_shape()
    *_, keys, value = node.input(2).get_shape()
    return math.prod(many) * queries * keys * (width + value)


_COUNTS = {
    "Convolution": _convolution,
    "GroupConvolution": _convolution,
    "ConvolutionBackpropData": _transposed,
    "GroupConvolutionBackpropData": _transposed,
    "MatMul": _product,
    "ScaledDotProductAttention": _attention,
}


def _class_of(node: Any, kind: str) -> str:
    if "Convolution" in kind:
        return "convolution"
    if kind == "MatMul" and any(_is_weight(node.input_value(i).get_node()) for i in (0, 1)):
        return "linear"
    return "attention"


def _is_weight(node: Any) -> bool:
    """Whether it is a constant, or made of constants alone."""
    if node.get_type_name() == "Constant":
        return True
    return node.get_type_name() in _PASSING and all(
        _is_weight(node.input_value(i).get_node()) for i in range(node.get_input_size())
    )


def _is_quantized(node: Any, operand: int) -> bool:
    """Whether an operand holds no more than 256 different numbers, and so can be 8 bits."""
    source = node.input_value(operand).get_node()
    kind = source.get_type_name()
    if kind == "FakeQuantize":
        return bool(source.get_attributes()["levels"] <= 256)
    if kind == "Constant":
        return str(source.get_element_type().get_type_name()) in ("i8", "u8")
    return kind in _PASSING and _is_quantized(source, 0)
