"""A ControlNet checkpoint, exported to a folder of its own that serves every model of its kind."""

import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import architecture, folder, graphs, manifest, parity, weights
from .source import ControlNetFolder

Says = Callable[[str, float], None]


def export(
    checkpoint: ControlNetFolder,
    output: Path,
    target: Path,
    formats: Sequence[str],
    precision: str,
    backend: Callable[[str], Any],
    report: Says,
) -> None:
    """Fill `target`, the unpublished folder of `output`: config, graph, manifest.

    backend: a format's name -> the module that writes and runs it.
    Raises `SourceError` for a weight that is missing or has no place, `ExportError` where a graph
    is too far from the module.
    """
    config = checkpoint.config()
    module = architecture.build("controlnet", config, checkpoint.record["name"])
    size = architecture.count_parameters(module) * (2 if precision == "fp16" else 4)
    folder.require_space(output, int(size * (len(formats) + 1) * 1.05) + 16_000_000)
    report("loading the ControlNet", 0.0)
    weights.load(module, checkpoint.weights(), checkpoint.record["name"])
    manifest.write_json(target / "config.json", architecture.published_config(module, config))
    graph = graphs.controlnet(module)
    report("running it", 0.1)
    trials, measured = _run(graph, checkpoint.record["name"], rounded=precision == "fp16")
    for i, form in enumerate(formats):
        report(f"tracing it for {form}", 0.2 + 0.4 * i / len(formats))
        backend(form).write(graph, target, half=precision == "fp16")
    # Gone before an engine needs the room.
    del graph, module
    gc.collect()
    for i, form in enumerate(formats):
        report(f"checking it in {form}", 0.6 + 0.4 * i / len(formats))
        found = backend(form).run(target, trials.inputs)
        where = f"{checkpoint.record['name']} ({form})"
        measured[form] = parity.compare(trials, found, where).as_json()
    report("writing the manifest", 1.0)
    manifest.write(target, checkpoint.record, list(formats), precision, {"controlnet": measured})


def _run(graph: graphs.Graph, origin: str, rounded: bool) -> tuple[parity.Trials, dict[str, Any]]:
    """What the module computes, with rounded weights where they are stored so; what that costs."""
    trials = parity.reference(graph)
    if not (rounded and weights.round_to_half(graph.module, origin)):
        return trials, {}
    exact, trials = trials, parity.reference(graph)
    where = f"{origin}, weights rounded to float16"
    cost = parity.compare(exact, trials.outputs, where, parity.ROUNDING_TOLERANCE)
    return trials, {"rounding": cost.as_json()}
