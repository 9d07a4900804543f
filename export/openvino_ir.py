"""OpenVINO IR: trace a graph and write `openvino_model.xml` and `.bin`; run them for the check."""

import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from openvino import opset13 as opset
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from openvino.op import Constant

from . import ir_pieces, ir_weights, tracing
from .graphs.graph import Graph, Inputs
from .weights import HALF_FROM

FILE = "openvino_model.xml"


def write(graph: Graph, folder: Path, half: bool) -> None:
    """Trace `graph` and save it; `half` stores the weights as float16, computed with as float32."""
    with tracing.opened(graph, graph.example()) as traced:
        model = _converted(graph, traced)
    # A cast that does nothing would leave an input a second name.
    names = [*graph.inputs, *(f"self.{name}" for name in traced.weights)]
    for port, name in zip(model.inputs, names, strict=True):
        port.get_tensor().set_names({name})
        port.get_node().friendly_name = name
        if name not in graph.inputs and not port.get_target_inputs():
            model.remove_parameter(port.get_node())  # of the network's other graph
    for port, name in zip(model.outputs, graph.outputs, strict=True):
        port.get_tensor().set_names({name})
    folder.mkdir(parents=True, exist_ok=True)
    if half:
        _save_half(model, folder)
    else:
        openvino.save_model(model, folder / FILE, compress_to_fp16=False)
    weights = {f"self.{name}": weight for name, weight in traced.weights.items()}
    ir_weights.put(folder / FILE, weights, half)


def _converted(graph: Graph, traced: tracing.Traced) -> openvino.Model:
    example = (*traced.inputs, *traced.stand_ins)
    axes = [*graph.inputs.values(), *({} for _ in traced.stand_ins)]
    shapes = [_free(value, free) for value, free in zip(example, axes, strict=True)]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit.trace warns of every assert in diffusers
        # The second forward of torch's own trace check is left out: parity.py does that better.
        trace: Any = torch.jit.trace  # without types in some versions
        script = trace(traced.module, example, strict=False, check_trace=False)
        decoder = _Decoder(script, shapes[len(traced.inputs) :])
        return openvino.convert_model(decoder, example_input=example, input=shapes)


class _Decoder(TorchScriptPythonDecoder):
    """Says the shapes of weights, the last inputs, at once, so that no graph computes them."""

    def __init__(
        self, script: torch.jit.ScriptModule, weights: list[openvino.PartialShape]
    ) -> None:
        self.weights = weights
        super().__init__(script, example_input=())

    def get_input_shape(self, index: int) -> openvino.PartialShape:
        first = len(self.raw_inputs) - len(self.weights)
        return self.weights[index - first] if index >= first else super().get_input_shape(index)


def _free(value: torch.Tensor, axes: Mapping[int, str]) -> openvino.PartialShape:
    return openvino.PartialShape([-1 if i in axes else n for i, n in enumerate(value.shape)])


def _save_half(model: openvino.Model, folder: Path) -> None:
    """Store weights as float16, but give the small constants their float32 values back.

    OpenVINO compresses all constants alike, the frequencies of the timestep embedding among them;
    a timestep of 999 times a rounded frequency is up to a quarter of a radian off, which costs the
    UNet far more than the rounding of its weights does.
    """
    exact = {
        op.friendly_name: op.data.copy()
        for op in model.get_ops()
        if isinstance(op, Constant) and op.data.dtype == np.float32 and op.data.size < HALF_FROM
    }
    with tempfile.TemporaryDirectory(prefix=".compressed-", dir=folder) as aside:
        openvino.save_model(model, Path(aside) / FILE, compress_to_fp16=True)
        compressed = openvino.Core().read_model(Path(aside) / FILE)
        for op in compressed.get_ops():
            # A compressed constant is a float16 one with a Convert that took over its name.
            if op.get_type_name() == "Convert" and op.friendly_name in exact:
                constant = opset.constant(exact[op.friendly_name])
                constant.friendly_name = op.friendly_name
                op.output(0).replace(constant.output(0))
        openvino.save_model(compressed, folder / FILE, compress_to_fp16=False)
        del compressed, op  # they hold the file mapped, and Windows would not delete it


def run(folder: Path, cases: Iterable[Inputs]) -> Iterator[dict[str, np.ndarray]]:
    """Run the written graph on the CPU in float32; yield its outputs, by name, for each case."""
    feeds = [{name: value.numpy() for name, value in inputs.items()} for inputs in cases]
    yield from ir_pieces.run(lambda: openvino.Core().read_model(folder / FILE), feeds)
