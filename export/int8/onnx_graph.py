"""ONNX: read, given fewer keys, quantized to QuantizeLinear and DequantizeLinear, written."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
from onnx import TensorProto, helper, numpy_helper

from pleinair.runtime.engines.onnxruntime import OnnxRuntimeEngine
from pleinair.runtime.engines.protocol import conform, first_line
from pleinair.runtime.errors import ExportError

from .. import onnx_file
from . import layers, post_training
from .attention import SelfAttention, stride_onnx
from .onnx_convolutions import output_ranges, round_outputs
from .post_training import Calibration, Inputs

FILE = onnx_file.FILE


def engine(graph: Path) -> OnnxRuntimeEngine:
    """What runs a graph of this format."""
    return OnnxRuntimeEngine()


def prepare(
    source: Path, folder: Path, chosen: Callable[[Any], Sequence[SelfAttention]], stride: int
) -> tuple[Path, int]:
    """As `openvino_graph.prepare`; weights are float32 in it, in a file beside.

    Where they are stored as float16 a Cast stands before each, and NNCF knows no weight behind it.
    """
    attentions = chosen(openvino.Core().read_model(source))
    try:
        model = onnx.load(source)
    except onnx.checker.ValidationError as error:  # a link that onnx does not follow
        raise ExportError(f"{source}: onnx does not read it: {first_line(error)}") from error
    _widen(model)
    stride_onnx(model, attentions, stride)
    return onnx_file.save(model, folder, external=True), len(attentions)


def _widen(model: onnx.ModelProto) -> None:
    """Replace float16 weights and their Casts by float32 weights."""
    halves = {
        weight.name: weight
        for weight in model.graph.initializer
        if weight.data_type == TensorProto.FLOAT16
    }
    widened = [
        node for node in model.graph.node if node.op_type == "Cast" and node.input[0] in halves
    ]
    for node in widened:
        if helper.get_node_attr_value(node, "to") == TensorProto.FLOAT:
            values = numpy_helper.to_array(halves[node.input[0]]).astype(np.float32)
            model.graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
            model.graph.node.remove(node)
    read = {name for node in model.graph.node for name in node.input}
    for name, weight in halves.items():
        if name not in read:
            model.graph.initializer.remove(weight)


def groups(graph: Path) -> dict[str, str]:
    """Node -> group; by OpenVINO's reading of it where its name does not tell."""
    known = layers.groups(openvino.Core().read_model(graph))
    nodes = onnx.load(graph, load_external_data=False).graph.node
    found = {}
    for node in nodes:
        group = layers.group_of(node.name) or known.get(node.name, layers.OTHER)
        found[node.name] = group
    return found


def quantized(
    graph: Path,
    samples: Sequence[Inputs],
    tell: Callable[[], None],
    ignored: Iterable[str],
    quick: bool = False,
) -> Any:
    """As `openvino_graph.quantized`; convolutions give rounded numbers, as they take them."""
    model = onnx.load(graph, load_external_data=False)
    types = {}
    for port in model.graph.input:
        declared = port.type.tensor_type
        dtype = helper.tensor_dtype_to_np_dtype(declared.elem_type)
        types[port.name] = dtype, len(declared.shape.dim)
    inputs = [{name: conform(one[name], *types[name]) for name in one} for one in samples]
    ranges = output_ranges(graph, inputs, tell)
    calibration = Calibration(inputs, tell)
    made = post_training.quantize(model, calibration, ignored, graph.parent, quick)
    round_outputs(made, ranges)
    return made


def compressed(graph: Path, ignored: Iterable[str]) -> Any:
    """The graph with 8-bit weights alone."""
    model = onnx.load(graph, load_external_data=False)
    made = post_training.compress_weights(model, ignored, graph.parent)
    _flatten_scales(made)
    return made


def _flatten_scales(model: onnx.ModelProto) -> None:
    """Give a weight's scales one dimension, as ONNX wants it.

    NNCF 3.4 leaves those of a convolution in three, (channels, 1, 1), and no engine opens that.
    """
    stored = {weight.name: weight for weight in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            for name in node.input[1:]:
                if name in stored and len(stored[name].dims) > 1:
                    count = int(np.prod(stored[name].dims))
                    del stored[name].dims[:]
                    stored[name].dims.append(count)


def write(model: Any, folder: Path) -> Path:
    return onnx_file.save(model, folder)
