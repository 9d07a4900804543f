"""What a picture is in arithmetic, counted without computing it.

The pipeline runs as ever, in a process of its own, on an OpenVINO that compiles nothing: each
graph is counted as it is handed to the compiler, with all that was put into it when it was opened,
and answers with noise. So nothing of it weighs on what is timed.
"""

from dataclasses import asdict
from typing import Any

from pleinair.runtime.errors import EngineError

from .flops import Flops, counted
from .gauge import Gauge
from .painting import arguments, opened
from .worker import Watch


def tally(job: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """The worker's way in, with a job of `painting.paint`.

    {"graphs": [{"part", "key", "evaluations", "flops"}]}, the key as `gauge.Evaluations` has it,
    "flops" None where a graph's shapes are not fixed.
    """
    import openvino

    Core.inside, openvino.Core = openvino.Core, Core
    way = {"engine": "openvino", "device": "cpu", "precision": "f32"}
    pipe = opened(job | way, cache_dir=None)  # a kept graph would be taken uncounted
    pipe.engine = gauge = Gauge(pipe.engine)
    pipe(**arguments(job))
    if len(gauge.graphs) != len(Core.counted):
        raise EngineError("the engine compiled other graphs than it was asked for")
    graphs = [
        {"part": graph.part, "key": graph.key, "evaluations": len(graph.seconds)}
        | {"flops": flops and asdict(flops) | {"total": flops.total}}
        for graph, flops in zip(gauge.graphs, Core.counted, strict=True)
    ]
    return {"graphs": graphs}


class Core:
    """Stands in for openvino.Core, which is `inside`; counted: of each graph compiled."""

    inside: Any = None
    counted: list[Flops | None] = []  # noqa: RUF012 - the process is this one count

    def __init__(self) -> None:
        self._core = self.inside()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def compile_model(self, model: Any, *_: Any) -> "Uncompiled":
        self.counted.append(counted(model))
        return Uncompiled(model)


class Uncompiled:
    """A compiled model and its request, which answers with noise of the right shapes.

    Noise and not zeros: guided and unguided predictions must differ, as real ones do.
    """

    def __init__(self, model: Any) -> None:
        import numpy as np

        self.inputs, self.outputs = model.inputs, model.outputs
        self._random = np.random.default_rng(0)

    def create_infer_request(self) -> "Uncompiled":
        return self

    def infer(self, inputs: Any, **_: Any) -> list[Any]:
        return [self._random.standard_normal(list(port.get_shape())) for port in self.outputs]
