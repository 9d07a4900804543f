"""An engine in between, which notes what is asked of the real one and how long it takes."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pleinair.runtime.graphs.float32 import EXACT


@dataclass
class Evaluations:
    """What one compiled graph did.

    part: the model's part, as "text_encoder" or "vae_decoder_int8".
    key: tells it from the other graphs of its part: input shapes, and what was put into the graph
        when it was opened.
    seconds: of each evaluation since it was compiled, or `Gauge.forget` called.
    """

    part: str
    key: str
    seconds: list[float] = field(default_factory=list)


class Gauge:
    """Times an engine, in its place in a pipeline's `parts`; graphs: in order of compilation."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.graphs: list[Evaluations] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def compile(self, path: Path, shapes: Any, edits: Sequence[Any] = ()) -> Any:
        graph = self._engine.compile(path, shapes, edits)
        done = Evaluations(_part(path), _key(shapes, edits))
        self.graphs.append(done)

        def evaluate(feeds: Any) -> Any:
            begun = time.perf_counter()
            result = graph(feeds)
            done.seconds.append(time.perf_counter() - begun)
            return result

        return evaluate

    def forget(self) -> None:
        """Leave out what was a warm-up."""
        for graph in self.graphs:
            graph.seconds.clear()


def _part(path: Path) -> str:
    return path.parent.name if path.stem in ("openvino_model", "model") else path.stem


def _key(shapes: Any, edits: Sequence[Any]) -> str:
    sizes = (f"{name} {'x'.join(map(str, shape))}" for name, shape in sorted(shapes.items()))
    # In which precision a graph is computed is no matter of its arithmetic.
    return "; ".join([*sizes, *(repr(edit) for edit in edits if edit != EXACT)])
