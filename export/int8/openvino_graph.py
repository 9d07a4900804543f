"""OpenVINO IR: read, given fewer keys, quantized, written."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import openvino

from pleinair.runtime.engines.protocol import Engine, conform
from pleinair.runtime.graphs.mapped import read_once
from pleinair.runtime.graphs.norms import norm_by_moments

from . import layers, post_training
from .attention import SelfAttention, stride_openvino
from .compression import stored_one_by_one
from .gated import split_projections
from .piecewise import exact_engine
from .post_training import Calibration, Inputs
from .smoothing import smoothed_in_file
from .statistics import statistics_in_pieces
from .upsampling import sign_inputs, transpose_upsamplers

FILE = "openvino_model.xml"


def engine(graph: Path) -> Engine:
    """What runs a graph of this format."""
    return exact_engine(graph)


def prepare(
    source: Path, folder: Path, chosen: Callable[[Any], Sequence[SelfAttention]], stride: int
) -> tuple[Path, int]:
    """The graph to quantize, and how many of its attentions take fewer keys; written to `folder`.

    What the engine computes in a roundabout way is put to it otherwise, with the same result.
    chosen: says which attentions of an openvino.Model take fewer.
    """
    with read_once(source.with_suffix(".bin")):
        model = openvino.Core().read_model(source)
        attentions = chosen(model)
        stride_openvino(model, attentions, stride)
        split_projections(model)
        transpose_upsamplers(model)
        openvino.save_model(model, folder / FILE, compress_to_fp16=False)
    return folder / FILE, len(attentions)


def groups(graph: Path) -> dict[str, str]:
    """Operation -> group, see `layers`."""
    return layers.groups(openvino.Core().read_model(graph))


def quantized(
    graph: Path,
    samples: Sequence[Inputs],
    tell: Callable[[], None],
    ignored: Iterable[str],
    target: Path,
    quick: bool = False,
) -> Path:
    """Write the graph in 8 bits into `target`, see `post_training.quantize`.

    Samples are cast to what it takes.
    """
    stored, smoothed = graph.with_suffix(".bin"), graph.with_name("smoothed")
    with read_once(stored), smoothed_in_file(smoothed, stored.stat().st_size):
        model = openvino.Core().read_model(graph)
        inputs = _conforming(model, samples)
        free = {port: port.get_partial_shape() for port in model.inputs}
        # Of fixed shapes the memory for what is computed in between is planned, and shared.
        model.reshape({port: inputs[0][port.any_name].shape for port in model.inputs})
        with statistics_in_pieces(inputs, graph.parent), stored_one_by_one():
            made = post_training.quantize(model, Calibration(inputs, tell), ignored, quick=quick)
        made.reshape({made.input(port.any_name): shape for port, shape in free.items()})
        sign_inputs(made)
        norm_by_moments(made)
        return _save(made, target)


def _conforming(model: Any, samples: Sequence[Inputs]) -> list[Inputs]:
    """The samples, each value of the type and rank that the model takes."""
    types = {
        name: (port.get_element_type().to_dtype(), port.get_partial_shape().rank.get_length())
        for port in model.inputs
        for name in port.get_names()
    }
    return [{name: conform(one[name], *types[name]) for name in one} for one in samples]


def compressed(graph: Path, ignored: Iterable[str], target: Path) -> Path:
    """Write the graph with 8-bit weights alone into `target`."""
    made = post_training.compress_weights(openvino.Core().read_model(graph), ignored)
    norm_by_moments(made)
    return _save(made, target)


def _save(model: Any, folder: Path) -> Path:
    openvino.save_model(model, folder / FILE, compress_to_fp16=False)
    return folder / FILE
