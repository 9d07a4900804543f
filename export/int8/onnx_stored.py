"""Weights of an ONNX graph that stay in the file beside it while NNCF quantizes.

NNCF puts each weight that SmoothQuant multiplies into the graph itself, and in the end all others,
as float32, before it stores one in 8 bits: 5 GB of Stable Diffusion's UNet, and more than protobuf
holds of XL's.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from .. import onnx_file
from .onnx_nodes import exchange, leave_out_unread
from .post_training import load


@contextlib.contextmanager
def weights_in_file(folder: Path) -> Iterator[None]:
    """Let NNCF leave the weights of a graph in the file in `folder`; the numbers are its own.

    Weights in 8 bits are in the graph; of those that are none, what was in the file still is. NNCF
    has no setting for it, so what does otherwise is exchanged inside the block.
    """
    load()
    from nncf.onnx.graph import model_transformer
    from nncf.onnx.quantization import quantize_model
    from nncf.quantization.algorithms.smooth_quant.onnx_backend import ONNXSmoothQuantAlgoBackend

    update = ONNXSmoothQuantAlgoBackend.weight_update_command
    put = model_transformer.set_initializer
    bring_in = quantize_model.load_external_data_for_model
    store = quantize_model.compress_quantize_weights_transformation

    def update_in_file(node: Any, graph: Any, values: Any) -> Any:
        return update(node, graph, _Smoothed(values, folder))

    def put_from_file(name: str, model: onnx.ModelProto, value: Any) -> None:
        if not isinstance(value, _Smoothed):
            put(name, model, value)
            return
        weight = next(one for one in model.graph.initializer if one.name == name)
        weight.CopyFrom(value.weight)
        weight.name = name

    def store_one_by_one(model: onnx.ModelProto) -> None:
        _store(model, folder, store)

    ONNXSmoothQuantAlgoBackend.weight_update_command = staticmethod(update_in_file)
    model_transformer.set_initializer = put_from_file
    quantize_model.load_external_data_for_model = lambda model, folder: None
    quantize_model.compress_quantize_weights_transformation = store_one_by_one
    try:
        yield
    finally:
        ONNXSmoothQuantAlgoBackend.weight_update_command = staticmethod(update)
        model_transformer.set_initializer = put
        quantize_model.load_external_data_for_model = bring_in
        quantize_model.compress_quantize_weights_transformation = store


class _Smoothed:
    """A weight that SmoothQuant has multiplied, as float32 in the file of weights in `folder`."""

    def __init__(self, values: NDArray[Any], folder: Path) -> None:
        self.folder = folder
        self.weight = numpy_helper.from_array(values.astype(np.float32))
        onnx_file.append(self.weight, folder)

    def astype(self, kind: Any) -> NDArray[Any]:
        """Its values, for a weight that is no initializer but what a Constant gives."""
        loaded = onnx_file.loaded(self.weight, self.folder)
        values: NDArray[Any] = numpy_helper.to_array(loaded)
        return values.astype(kind)


def _store(model: onnx.ModelProto, folder: Path, store: Any) -> None:
    """Let `store` round one weight after another, each in a model of its own."""
    weights = {weight.name: weight for weight in model.graph.initializer}
    nodes, made = [], []
    for node in model.graph.node:
        if node.op_type != "QuantizeLinear" or node.input[0] not in weights:
            nodes.append(node)
            continue
        read = [onnx_file.loaded(weights[name], folder) for name in node.input]
        graph = helper.make_graph([node], "weight", [], [], read)
        alone = helper.make_model(graph, opset_imports=model.opset_import)
        store(alone)
        made += [one for one in alone.graph.initializer if one.name == node.output[0]]
    exchange(model, nodes)
    leave_out_unread(model)
    made.reverse()
    while made:  # one by one, for a moment each is there twice
        model.graph.initializer.append(made.pop())
