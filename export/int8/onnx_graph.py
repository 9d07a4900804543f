"""ONNX: read, given fewer keys, quantized to QuantizeLinear and DequantizeLinear, written."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
from onnx import TensorProto, helper, numpy_helper

from pleinair.runtime.engines.onnxruntime import OnnxRuntimeEngine
from pleinair.runtime.engines.protocol import Engine, conform, first_line
from pleinair.runtime.errors import ExportError
from pleinair.runtime.graphs.onnx_graph import NODE, Node, OnnxGraph

from .. import onnx_file
from . import layers, post_training
from .attention import SelfAttention, stride_onnx
from .onnx_convolutions import output_ranges, round_outputs
from .onnx_nodes import exchange, leave_out_unread
from .onnx_pieces import statistics_in_pieces
from .onnx_stored import weights_in_file
from .piecewise import exact_engine
from .post_training import Calibration, Inputs

FILE = onnx_file.FILE


def engine(graph: Path) -> Engine:
    """What runs a graph of this format; floats are computed as the model's own pictures are."""
    fields = OnnxGraph.open(graph).fields()
    nodes = (Node.parse(value) for number, _, value, _ in fields if number == NODE)
    rounded = any(node.operator == "DequantizeLinear" for node in nodes)
    return OnnxRuntimeEngine() if rounded else exact_engine(graph)


def prepare(
    source: Path, folder: Path, chosen: Callable[[Any], Sequence[SelfAttention]], stride: int
) -> tuple[Path, int]:
    """As `openvino_graph.prepare`; weights are float32 in it, in a file beside.

    Where they are stored as float16 a Cast stands before each, and NNCF knows no weight behind it.
    """
    attentions = chosen(openvino.Core().read_model(source))
    try:
        model = onnx.load(source, load_external_data=False)
        _widen(model, source.parent, folder)
    except onnx.checker.ValidationError as error:  # a link that onnx does not follow
        raise ExportError(f"{source}: onnx does not read it: {first_line(error)}") from error
    stride_onnx(model, attentions, stride)
    return onnx_file.save(model, folder, external=False), len(attentions)


def _widen(model: onnx.ModelProto, source: Path, folder: Path) -> None:
    """Replace float16 weights and their Casts by float32 weights, and move all into `folder`.

    Vectors stay in the graph: biases are corrected, and looked at.
    """
    stored = {weight.name: weight for weight in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        weight = stored.get(node.input[0]) if node.op_type == "Cast" else None
        if weight is None or not _widens(node, weight):
            nodes.append(node)
            continue
        values = numpy_helper.to_array(onnx_file.loaded(weight, source)).astype(np.float32)
        wide = numpy_helper.from_array(values, node.output[0])
        _move(wide, folder)
        model.graph.initializer.append(wide)
    exchange(model, nodes)
    leave_out_unread(model)
    for weight in model.graph.initializer:
        if weight.name in stored:
            moved = onnx_file.loaded(weight, source)
            _move(moved, folder)
            weight.CopyFrom(moved)


def _widens(cast: onnx.NodeProto, weight: onnx.TensorProto) -> bool:
    to = helper.get_node_attr_value(cast, "to")
    return bool(weight.data_type == TensorProto.FLOAT16 and to == TensorProto.FLOAT)


def _move(weight: onnx.TensorProto, folder: Path) -> None:
    if len(weight.dims) > 1 and weight.HasField("raw_data"):
        onnx_file.append(weight, folder)


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
    target: Path,
    quick: bool = False,
) -> Path:
    """As `openvino_graph.quantized`; convolutions give rounded numbers, as they take them."""
    model = onnx.load(graph, load_external_data=False)
    types = {}
    for port in model.graph.input:
        declared = port.type.tensor_type
        dtype = helper.tensor_dtype_to_np_dtype(declared.elem_type)
        types[port.name] = dtype, len(declared.shape.dim)
    inputs = [{name: conform(one[name], *types[name]) for name in one} for one in samples]
    folder = graph.parent
    ranges = output_ranges(graph, inputs, tell)
    with weights_in_file(folder), statistics_in_pieces(inputs, folder, tell):
        calibration = Calibration(inputs, lambda: None)
        made = post_training.quantize(model, calibration, ignored, folder, quick)
    round_outputs(made, ranges)
    return onnx_file.save(made, target, source=folder)


def compressed(graph: Path, ignored: Iterable[str], target: Path) -> Path:
    """The graph with 8-bit weights alone."""
    model = onnx.load(graph, load_external_data=False)
    made = post_training.compress_weights(model, ignored, graph.parent)
    _flatten_scales(made)
    return onnx_file.save(made, target)


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
