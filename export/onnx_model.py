"""ONNX: trace a graph and write `model.onnx`, with large weights in one `model.onnx_data`.

Float16 weights are stored as float16 and cast to float32 at the head of the graph: ONNX Runtime
folds the casts when it opens the file, and its CPU kernels then compute in float32, for which
they are written. Half the disk, none of the float16 detours.
"""

import tempfile
import warnings
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from . import onnx_weights, tracing
from .graphs.graph import Graph, Inputs
from .onnx_file import DATA, FILE
from .stored_weight import StoredWeight
from .weights import HALF_FROM

OPSET = 18


def write(graph: Graph, folder: Path, half: bool) -> None:
    """Trace `graph` and save it; `half` stores the weights as float16."""
    folder.mkdir(parents=True, exist_ok=True)
    # Above 2 GB torch writes one file per weight: let it, aside, and gather them afterwards.
    with tempfile.TemporaryDirectory(prefix=".trace-", dir=folder) as aside:
        weights = _trace(graph, Path(aside) / FILE)
        model = onnx.load(Path(aside) / FILE)
    if half:
        _store_as_half(model)
    onnx_weights.put(model, weights, half, folder)


def _trace(graph: Graph, file: Path) -> dict[str, StoredWeight]:
    """Write the traced graph; return the weights that are inputs of it, by their names there."""
    example = _with_scalars(graph.example(), graph.scalars)
    free = {name: axes for name, axes in graph.inputs.items() if example[name].ndim}
    with (
        tracing.opened(graph, example) as traced,
        torch.no_grad(),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # of asserts in diffusers, and of the exporter's age
        torch.onnx.export(
            traced.module,
            (*traced.inputs, *traced.stand_ins),
            str(file),
            input_names=[*graph.inputs, *traced.weights],
            output_names=list(graph.outputs),
            dynamic_axes=free | graph.outputs,
            opset_version=OPSET,
            dynamo=False,
        )
    return traced.weights


def _with_scalars(inputs: Inputs, scalars: Collection[str]) -> Inputs:
    """Make these one float: optimum's shape of a timestep, which need be no whole number."""
    return inputs | {name: inputs[name][0].float() for name in scalars}


def _store_as_half(model: onnx.ModelProto) -> None:
    """Replace float32 weights by float16 ones with a Cast to the old name."""
    casts = []
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if weight.data_type != TensorProto.FLOAT or values.size < HALF_FROM:
            continue
        name = weight.name
        half = values.astype(np.float16)
        weight.CopyFrom(numpy_helper.from_array(half, f"{name}.float16"))
        casts.append(helper.make_node("Cast", [weight.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def run(folder: Path, cases: Iterable[Inputs]) -> Iterator[dict[str, np.ndarray]]:
    """Run the written graph on the CPU in float32; yield its outputs, by name, for each case."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if (folder / DATA).exists():
        # As it is written: else all large weights would be widened beforehand, and stay so.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    session = onnxruntime.InferenceSession(
        str(folder / FILE), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    scalars = [given.name for given in session.get_inputs() if not given.shape]
    for inputs in cases:
        feed = {name: value.numpy() for name, value in _with_scalars(inputs, scalars).items()}
        yield dict(zip(names, session.run(names, feed), strict=True))
