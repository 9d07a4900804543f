"""What a pipeline asks of its UNet, written down as it paints."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from pleinair.runtime.engines.shelf import Shelf
from pleinair.runtime.graphs.cut import Cut


class Evaluation(NamedTuple):
    """kind: "plain", "whole" (hands its deep features out) or "shallow"; file: the graph's."""

    kind: str
    batch: int
    timestep: float
    file: Path


class _Watched:
    def __init__(self, graph: Any, kind: str, file: Path, seen: list[Evaluation]) -> None:
        self.graph, self.kind, self.file, self.seen = graph, kind, file, seen

    def __call__(self, feeds: Any) -> dict[str, np.ndarray]:
        batch, t = len(feeds["encoder_hidden_states"]), float(feeds["timestep"])
        self.seen.append(Evaluation(self.kind, batch, t, self.file))
        return self.graph(feeds)


def watched(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> list[Evaluation]:
    """The list that is written to; the pipeline's graphs are compiled anew."""
    seen: list[Evaluation] = []
    compile = pipe.engine.compile

    def compiled(path: Path, shapes: Any, edits: Any = ()):
        graph = compile(path, shapes, edits)
        if not path.parent.name.startswith("unet"):
            return graph
        cut = next((edit for edit in edits if isinstance(edit, Cut)), None)
        kind = "plain" if cut is None else "shallow" if cut.shallow else "whole"
        return _Watched(graph, kind, path, seen)

    monkeypatch.setattr(pipe.engine, "compile", compiled)
    monkeypatch.setattr(pipe.parts, "shelf", Shelf())
    return seen


def kinds(seen: list[Evaluation]) -> str:
    """A letter an evaluation: p, w or s."""
    return "".join(one.kind[0] for one in seen)
