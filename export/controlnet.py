"""A ControlNet checkpoint, exported to a folder of its own that serves every model of its kind."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import architecture, folder, manifest, parity, weights
from .formats import backend
from .graphs import controlnet
from .graphs.graph import Graph
from .request import Request
from .source import ControlNetFolder


def export(
    checkpoint: ControlNetFolder,
    request: Request,
    target: Path,
    report: Callable[[str, float], None],
) -> None:
    """Fill `target`, the unpublished folder: config, graph, manifest.

    Raises `SourceError` for a weight that is missing or has no place, `ExportError` where a graph
    is too far from the module.
    """
    config, name = checkpoint.config(), checkpoint.record["name"]
    formats, half = request.formats, request.half
    module = architecture.build("diffusers.ControlNetModel", config, name)
    size = architecture.count_parameters(module) * (2 if half else 4)
    folder.require_space(request.output, int(size * (len(formats) + 1) * 1.05) + 16_000_000)
    report("loading the ControlNet", 0.0)
    weights.load(module, checkpoint.weights(), name)
    manifest.write_json(target / "config.json", architecture.published_config(module, config))
    graph = controlnet.controlnet(module)
    report("running it", 0.1)
    trials, measured = _run(graph, name, rounded=half)
    for i, form in enumerate(formats):
        report(f"tracing it for {form}", 0.2 + 0.4 * i / len(formats))
        backend(form).write(graph, target, half=half)
    # Gone before an engine needs the room.
    del graph, module
    gc.collect()
    for i, form in enumerate(formats):
        report(f"checking it in {form}", 0.6 + 0.4 * i / len(formats))
        found = backend(form).run(target, trials.inputs)
        measured[form] = parity.compare(trials, found, f"{name} ({form})").as_json()
    report("writing the manifest", 1.0)
    parities = {"controlnet": measured}
    manifest.write(target, checkpoint.record, formats, request.precision, parities)


def _run(graph: Graph, origin: str, rounded: bool) -> tuple[parity.Trials, dict[str, Any]]:
    """What the module computes, with rounded weights where they are stored so; what that costs."""
    trials = parity.reference(graph)
    if not (rounded and weights.round_to_half(graph.module, origin)):
        return trials, {}
    exact, trials = trials, parity.reference(graph)
    where = f"{origin}, weights rounded to float16"
    cost = parity.compare(exact, trials.outputs, where, parity.ROUNDING_TOLERANCE)
    return trials, {"rounding": cost.as_json()}
