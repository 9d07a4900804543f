"""OpenVINO IR: trace a graph and write `openvino_model.xml` and `.bin`; run them for the check."""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import openvino
import torch
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

from .graphs import Graph, Inputs

FILE = "openvino_model.xml"


def write(graph: Graph, folder: Path, half: bool) -> None:
    """Trace `graph` and save it; `half` stores the weights as float16, computed with as float32."""
    example = graph.example()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit.trace warns of every assert in diffusers
        # The second forward of torch's own trace check is left out: parity.py does that better.
        traced = TorchScriptPythonDecoder(
            graph.module, example_input=example, trace_kwargs={"check_trace": False}
        )
        model = openvino.convert_model(
            traced,
            example_input=example,
            input={name: _free(example[name], axes) for name, axes in graph.inputs.items()},
        )
    for port, name in zip(model.outputs, graph.outputs, strict=True):
        port.get_tensor().set_names({name})
    folder.mkdir(parents=True, exist_ok=True)
    openvino.save_model(model, folder / FILE, compress_to_fp16=half)


def _free(value: torch.Tensor, axes: Mapping[int, str]) -> openvino.PartialShape:
    return openvino.PartialShape([-1 if i in axes else n for i, n in enumerate(value.shape)])


def run(folder: Path, cases: Iterable[Inputs]) -> Iterator[dict[str, np.ndarray]]:
    """Run the written graph on the CPU in float32; yield its outputs, by name, for each case."""
    core = openvino.Core()
    compiled = core.compile_model(folder / FILE, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for inputs in cases:
        results = compiled({name: value.numpy() for name, value in inputs.items()})
        yield {port.any_name: results[port] for port in compiled.outputs}
