"""The parts of an opened model: their graphs, compiled when they are asked for."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..engines.protocol import Engine, Feeds, Graph, Renamed, Shapes
from ..engines.shelf import Shelf, Together
from ..errors import EngineError
from ..graphs.cut import Cut
from ..graphs.edit import Edit
from ..graphs.float32 import EXACT
from ..graphs.numbers import broken
from ..graphs.weights import ChangedWeights
from .footprint import Working, footprint, weights


@dataclass(frozen=True)
class PartGraph:
    """A part's graph, whose mistakes name its file, and whose outputs are numbers.

    changed: whether LoRA or embedding files have changed its weights.
    """

    graph: Graph
    path: Path
    changed: bool

    def __call__(self, feeds: Feeds) -> dict[str, NDArray[np.float32]]:
        try:
            outputs = self.graph(feeds)
        except EngineError as error:
            raise EngineError(f"{self.path}: {error}") from error
        if not outputs:
            raise EngineError(f"{self.path}: gives nothing; convert the model anew")
        finite = all(np.isfinite(value).all() for value in outputs.values())
        if not finite and all(np.isfinite(value).all() for value in feeds.values()):
            raise self._no_numbers()
        return outputs

    def _no_numbers(self) -> EngineError:
        if file := broken(self.path):
            return EngineError(
                f"{file}: holds weights that are no numbers, which would be a black picture; "
                "copy or convert it anew"
            )
        changed = " with what the LoRA files change" if self.changed else ""
        return EngineError(
            f"{self.path}{changed}: gives values that are no numbers, which would be a black "
            "picture; compute in full precision (profile exact), or check the files: "
            "pleinair models --check FOLDER"
        )


@dataclass
class Parts:
    """Graphs by the names of their parts.

    files: part -> its graph, in the engine's format.
    input_names: part -> our input name -> the graph's own, where they differ.
    changed: part -> the edit that LoRA and embedding files ask for.
    working: what a part holds while it computes, for shapes of its inputs.
    cuts: places that the denoiser can be cut at, for the share of its weights above one.
    exact: parts that compute in float32, whatever the engine's precision.
    shelf: keeps one size of each or, under a limit, as many as it has room for. Several models may
        share it.
    """

    engine: Engine
    files: Mapping[str, Path]
    input_names: Mapping[str, Mapping[str, str]]
    changed: Mapping[str, ChangedWeights]
    working: Callable[[str, Shapes], Working]
    cuts: int | None
    shelf: Shelf
    exact: Collection[str] = ()

    def graph(
        self,
        part: str,
        shapes: Shapes,
        edits: Sequence[Edit] = (),
        together: Together | None = None,
    ) -> Graph:
        """A part compiled for these shapes of its inputs, with these edits, and kept.

        together: the graphs of a call that work in every step, where it is one of them.
        """
        engine, path, names = self.engine, self.files[part], self.input_names.get(part, {})
        changed = self.changed.get(part)
        first: list[Edit] = [] if changed is None else [changed]
        precision = self._precision(part)
        exact = [EXACT] if precision != engine.precision else []

        def compile() -> Graph:
            named = {names.get(name, name): shape for name, shape in shapes.items()}
            graph = Renamed(engine.compile(path, named, [*first, *edits, *exact]), names)
            return PartGraph(graph, path, changed is not None)

        cut = next((edit for edit in edits if isinstance(edit, Cut) and edit.shallow), None)
        needs = 0
        if self.limited:
            needs = footprint(
                path,
                engine.name,
                self.working(part, shapes),
                precision=precision,
                streams=engine.streams,
                share=(cut.branch + 1) / (self.cuts or 1) if cut else 1.0,
                changed=_stored(changed, precision),
            )
        wanted = {
            "engine": (engine.name, engine.device, engine.streams, engine.threads),
            "precision": precision,
            "path": path,
            "shapes": {name: tuple(shape) for name, shape in shapes.items()},
            "edits": [edit.key for edit in edits],
            "changed": changed and changed.identity,
        }
        return self.shelf.graph(
            f"{part}, shallow" if cut else part,
            wanted,
            compile,
            needs=needs,
            together=together,
            folder=path.parent,
        )

    def inputs(self, part: str, *names: str) -> tuple[str, ...]:
        """What a part's graph itself calls these inputs, as edits have to."""
        theirs = self.input_names.get(part, {})
        return tuple(theirs.get(name, name) for name in names)

    @property
    def limited(self) -> bool:
        """Whether memory is: a graph is then checked when it is asked for, compiled when called."""
        return self.shelf.most is not None

    def check_memory(self, *parts: str) -> None:
        """Raise SettingError for a part that does not fit at any size."""
        if self.limited:
            for part in parts:
                self.shelf.check(part, weights(self.files[part], self._precision(part)))

    def _precision(self, part: str) -> str:
        """What a part is computed in."""
        return "f32" if part in self.exact else self.engine.precision


def _stored(changed: ChangedWeights | None, precision: str) -> float:
    """What weights that LoRA files change take as stored, for what they take packed."""
    if changed is None:
        return 0.0
    return 0.5 if changed.exact is None and precision == "f32" else 1.0
