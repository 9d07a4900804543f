"""What a picture is in arithmetic, counted without computing it.

The pipeline runs as ever, in a process of its own, on an engine that compiles nothing: each graph
is counted with all that is put into it, and answers with noise. So nothing of it weighs on what is
timed.
"""

from dataclasses import asdict
from typing import Any

from .counting import CountingEngine, Noise
from .gauge import Gauge
from .painting import arguments, opened
from .worker import Watch


def tally(job: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """The worker's way in, with a job of `painting.paint`.

    {"graphs": [{"part", "key", "evaluations", "flops"}]}, the key as `gauge.Evaluations` has it,
    "flops" None where a graph's shapes are not fixed.
    """
    pipe = opened(job | {"engine": "openvino", "device": "cpu", "precision": "f32"})
    counting = CountingEngine(pipe.engine, Noise)
    pipe.parts.engine = gauge = Gauge(counting)
    pipe(**arguments(job, pipe.family))
    graphs = [
        {"part": graph.part, "key": graph.key, "evaluations": len(graph.seconds)}
        | {"flops": flops and asdict(flops) | {"total": flops.total}}
        for graph, flops in zip(gauge.graphs, counting.flops, strict=True)
    ]
    return {"graphs": graphs}
