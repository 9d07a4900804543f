"""Convolutions of an ONNX graph that give rounded numbers, as they take them.

NNCF rounds what goes into an operation. ONNX Runtime computes a convolution in 8 bits only where
what comes out is rounded, too (QLinearConv). Else it widens what was rounded, weights with it, in
each evaluation anew, and computes in floating point.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from .onnx_nodes import exchange, leave_out_unread
from .onnx_pieces import values
from .post_training import Inputs

Range = tuple[float, float]


def output_ranges(
    graph: Path, samples: Sequence[Inputs], tell: Callable[[], None]
) -> dict[str, Range]:
    """Result of each convolution -> the least and the largest of its values in all samples.

    graph: whose weights may be in a file beside it. tell: called for each sample.
    """
    model = onnx.load(graph, load_external_data=False)
    names = [node.output[0] for node in model.graph.node if node.op_type == "Conv"]
    found: dict[str, Range] = {}
    for name, value in values(model, names, samples, graph.parent, tell):
        least, largest = found.get(name, (np.inf, -np.inf))
        found[name] = min(least, float(value.min())), max(largest, float(value.max()))
    return {name: found[name] for name in names}


def round_outputs(model: onnx.ModelProto, ranges: Mapping[str, Range]) -> int:
    """Round what convolutions of rounded numbers give, in place; returns how many there are.

    What goes in and what comes out must be of one type: it is made uint8 throughout. Biases become
    32-bit integers, in steps of the products: finer than anything that is rounded here. Where one
    is too large for that, beside weights that are next to nothing, a convolution stays as it is.
    """
    _unsigned(model)
    stored = {weight.name: weight for weight in model.graph.initializer}
    steps = {
        node.output[0]: numpy_helper.to_array(stored[node.input[1]])
        for node in model.graph.node
        if node.op_type == "DequantizeLinear"
    }
    nodes: list[onnx.NodeProto] = []
    count = 0
    for node in model.graph.node:
        if node.op_type == "Conv" and {*node.input[:2]} <= steps.keys():
            products = steps[node.input[0]] * steps[node.input[1]]
            bias = [numpy_helper.to_array(stored[name]) / products for name in node.input[2:]]
            if all(np.abs(whole).max() <= np.iinfo(np.int32).max for whole in bias):
                nodes += _rounded(model, node, bias, products, ranges[node.output[0]])
                count += 1
                continue
        nodes.append(node)
    exchange(model, nodes)
    leave_out_unread(model)
    return count


def _unsigned(model: onnx.ModelProto) -> None:
    """Let activations that are int8 be uint8, with a zero 128 higher: the same numbers."""
    stored = {weight.name: weight for weight in model.graph.initializer}
    above = {}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            zero = numpy_helper.to_array(stored[node.input[2]])
            if zero.dtype == np.int8:
                higher = (zero + np.int16(128)).astype(np.uint8)
                (node.input[2],) = _store(model, f"{node.output[0]}/zero", higher)
                above[node.output[0]] = node.input[2]
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in above:
            node.input[2] = above[node.input[0]]
    for declared in [one for one in model.graph.value_info if one.name in above]:
        declared.type.tensor_type.elem_type = onnx.TensorProto.UINT8


def _rounded(
    model: onnx.ModelProto,
    convolution: onnx.NodeProto,
    bias: Sequence[NDArray[Any]],
    products: NDArray[Any],
    seen: Range,
) -> Iterator[onnx.NodeProto]:
    """A convolution and what rounds its result, in 256 steps over what was seen; one is zero.

    bias: the one it has, if any, in steps of its products.
    """
    name = convolution.output[0]
    for whole in bias:
        steps = np.broadcast_to(products, whole.shape).astype(np.float32)
        given = _store(model, f"{name}/bias", np.round(whole).astype(np.int32), steps)
        convolution.input[2] = f"{name}/bias"
        yield helper.make_node("DequantizeLinear", given, [f"{name}/bias"], axis=0)
    least, largest = min(seen[0], 0.0), max(seen[1], 0.0)
    step = (largest - least) / 255 or 1.0
    ends = _store(model, f"{name}/ends", np.float32(step), np.uint8(round(-least / step)))
    exact, rounded = f"{name}/exact", f"{name}/rounded"
    convolution.output[0] = exact
    yield convolution
    yield helper.make_node("QuantizeLinear", [exact, *ends], [rounded], rounded)
    yield helper.make_node("DequantizeLinear", [rounded, *ends], [name], f"{name}/widened")


def _store(model: onnx.ModelProto, name: str, *values: Any) -> list[str]:
    """Put numbers into the model; returns their names."""
    names = [f"{name}/{i}" for i in range(len(values))]
    for one, value in zip(names, values, strict=True):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), one))
    return names
