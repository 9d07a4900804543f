"""Where a graph's time goes, by kind of operation, as OpenVINO counts it for each of them.

The pipeline paints as ever on an engine that keeps counts; so these are the graphs that `speed`
times, with all that was put into them when they were opened. Counting costs a few per cent.
"""

import argparse
import statistics
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.engines.openvino import OpenVinoEngine, OpenVinoGraph
from pleinair.runtime.engines.protocol import Feeds
from pleinair.runtime.speed.spread import Spread

from . import machine, results
from .counting import CountingEngine
from .gauge import Gauge
from .markdown import table
from .painting import arguments, opened
from .rounds import Record, Rounds
from .turns import Turn, Turns
from .way import Way
from .worker import Watch

_REST = "element by element"
_KINDS = {
    "convolution": {"Convolution", "Deconvolution"},
    "linear": {"FullyConnected", "FullyConnectedQuantizedLegacy"},
    "attention": {"MatMul", "Softmax", "ScaledDotProductAttention"},
    "norms": {"MVN", "GroupNormalization", "RMSNorm", "Reduce"},  # by their moments, too
    "layout": {"Reorder", "Transpose", "Concatenation", "Concat", "Slice", "StridedSlice", "Split"}
    | {"Interpolate", "Gather", "Tile", "Pad"},
}
# A subgraph that OpenVINO compiled as one is an attention where it took one of these in.
_MIXING = {"Softmax", "ScaledDotProductAttention"}


def add_to(commands: Any) -> None:
    about = "where each graph's time goes: convolutions, linear layers, attention, and the rest"
    parser = commands.add_parser("operations", help=about, description=about)
    parser.add_argument("model", help="a converted model: a folder or a known name")
    parser.add_argument(
        "--profile", default="native", help="or a profile and settings, as balanced,vae=tiny"
    )
    parser.add_argument("--size", type=int, help="both sides (default: the model's own)")
    parser.add_argument("--steps", type=int, default=4, help="of the picture (default: 4)")
    parser.add_argument("--rounds", type=int, default=2, help="processes (default: 2)")
    machine.add_threads(parser)
    results.add_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    results.check(options, "rounds", "threads")
    job = _job(options)
    measured, facts = Turns(Rounds(options.profile, {})), machine.facts()
    turns = {options.profile: Turn(f"{__name__}:profile", job)}
    code = measured.measure(turns, options.rounds)
    about = (
        f"{job['model']}: {options.profile}, {job['width']}x{job['height']}, {options.threads} "
        "threads; each graph's evaluations but the first; median (range over fresh processes)."
    )
    records = measured.rounds.records
    results.publish(
        options,
        {"machine": facts, **job, "records": records},
        "\n\n".join([machine.sentence(facts), about, markdown(records)]),
    )
    return code


def _job(options: argparse.Namespace) -> dict[str, Any]:
    """A job of `painting.paint`, checked as the runtime checks it, before any process starts."""
    way = Way.read(options.profile)
    pipe = StableDiffusionPipeline.from_pretrained(options.model)
    size = pipe.family.recommended.size if options.size is None else options.size
    job = {
        "model": str(pipe.bundle.path),
        "way": way.name,
        "threads": options.threads,
        "engine": "openvino",
        "device": "cpu",
        "precision": None,
        "prompt": "a picture",
        "seed": 42,
        "num_images_per_prompt": 1,
        "width": size,
        "height": size,
        "num_inference_steps": options.steps,
        "guidance_scale": None,
        "scheduler": None,
    }
    pipe.plan(**arguments(job | {"way": "exact"}, pipe.family))
    return job


def profile(job: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """The worker's way in: {"graphs": [{"part", "evaluations", "seconds", "number", "flops"}]}.

    "seconds": class of operations -> the median over the evaluations, the first left out where
    there are more; "number": class -> operations.
    """
    pipe = opened(job)
    counting = CountingEngine(pipe.engine, Profiled)
    pipe.parts.engine = gauge = Gauge(counting)
    pipe(**arguments(job, pipe.family))
    graphs = zip(gauge.graphs, counting.graphs, counting.flops, strict=True)
    return {
        "graphs": [
            {
                "part": graph.part,
                "evaluations": len(graph.seconds),
                "flops": flops and asdict(flops),
                **profiled.summary(),
            }
            for graph, profiled, flops in graphs
            if graph.seconds
        ]
    }


class Profiled:
    """A compiled graph, which adds up what the operations of each evaluation took.

    It is never one of the cache's: those do not say what went into their operations.
    """

    def __init__(self, engine: OpenVinoEngine, model: Any) -> None:
        compiled = engine.compiled(model, {"PERF_COUNT": True})
        self._graph = OpenVinoGraph(compiled)
        self._classes = dict(_classes(model, compiled.get_runtime_model()))
        self._evaluations: list[Counter[str]] = []

    def __call__(self, feeds: Feeds) -> dict[str, Any]:
        outputs = self._graph(feeds)
        seconds: Counter[str] = Counter()
        for node in self._graph.request.get_profiling_info():
            if taken := node.real_time.total_seconds():
                seconds[self._classes[node.node_name]] += taken
        self._evaluations.append(seconds)
        return outputs

    def summary(self) -> dict[str, Any]:
        """Class of operations -> seconds an evaluation, and how many there are."""
        warm = self._evaluations[1:] or self._evaluations
        classes = sorted({name for one in warm for name in one})
        return {
            "seconds": {name: statistics.median(one[name] for one in warm) for name in classes},
            "number": Counter(self._classes.values()),
        }


def _classes(model: Any, compiled: Any) -> Iterator[tuple[str, str]]:
    """Each operation of the compiled graph, and its class."""
    kinds = {node.get_friendly_name(): node.get_type_name() for node in model.get_ordered_ops()}
    for node in compiled.get_ordered_ops():
        told = node.get_rt_info()
        names = str(told["originalLayersNames"].astype(str)).split(",")
        kind = str(told["layerType"].astype(str))
        yield node.get_friendly_name(), class_of(kind, {kinds.get(name, "") for name in names})


def class_of(kind: str, taken_in: Collection[str]) -> str:
    """The class of an operation by OpenVINO's name for it, and the kinds that it was made of."""
    if kind == "Subgraph" and not _MIXING.isdisjoint(taken_in):
        return "attention"
    return next((name for name, kinds in _KINDS.items() if kind in kinds), _REST)


def markdown(records: Sequence[Record]) -> str:
    header = ("graph", "operations", "ms an evaluation", "share", "GFLOP", "GFLOP/s")
    graphs = zip(*(record["graphs"] for record in records), strict=True)  # each, by rounds
    return table(header, (row for rounds in graphs for row in _rows(rounds)))


def _rows(rounds: Sequence[dict[str, Any]]) -> Iterator[list[Any]]:
    """One graph's classes, the one that took longest first, and all of them."""
    first = rounds[0]
    totals = [sum(one["seconds"].values()) for one in rounds]
    flops = first["flops"] or {}
    known = {name: flops[name] for name in ("convolution", "linear", "attention") if name in flops}
    for name in sorted(first["seconds"], key=first["seconds"].__getitem__, reverse=True):
        seconds = [one["seconds"].get(name, 0.0) for one in rounds]
        yield _row(first["part"], name, seconds, totals, known.get(name))
    yield _row(first["part"], "all", totals, totals, sum(known.values()))


def _row(
    part: str, name: str, seconds: Sequence[float], totals: Sequence[float], flops: int | None
) -> list[Any]:
    share = statistics.median(s / total for s, total in zip(seconds, totals, strict=True))
    rate = Spread.of(flops / s / 1e9 for s in seconds if s) if flops else None
    milliseconds = Spread.of(1e3 * s for s in seconds)
    work = f"{flops / 1e9:,.3g}" if flops else None
    return [part, name, milliseconds, f"{share:.1%}", work, rate]
