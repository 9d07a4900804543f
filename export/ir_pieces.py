"""A graph run piece by piece, so that no more than a piece's weights are in memory.

Compiled as a whole a graph has all of its weights as float32, in the order that its kernels like,
beside those in the file.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from openvino import opset13 as opset

from pleinair.runtime.errors import ExportError

# Bytes in a piece. A UNet of Stable Diffusion has seven times as many of weights alone.
LIMIT = 512_000_000
# Of the weights of a layer at least.
_LAYER = 16_384
# Bytes of a value that a file is opened for.
_LARGE = 1_000_000

Values = Mapping[str, np.ndarray]


def run(
    read: Callable[[], Any],
    cases: Sequence[Values],
    limit: int | None = None,
    *,
    watched: bool = False,
    aside: Path | None = None,
) -> list[dict[str, np.ndarray]]:
    """The outputs of a graph on the CPU in float32, by all of their names, for each of the inputs.

    Arguments: as for `outputs`.
    """
    found: list[dict[str, np.ndarray]] = [{} for _ in cases]
    for case, name, value in outputs(read, cases, limit, watched=watched, aside=aside):
        found[case][name] = value
    return found


def outputs(
    read: Callable[[], Any],
    cases: Sequence[Values],
    limit: int | None = None,
    *,
    watched: bool = False,
    aside: Path | None = None,
) -> Iterator[tuple[int, str, np.ndarray]]:
    """Each output of a graph as soon as it is known: of which case, by which name, its value.

    All cases go through a piece before the next is compiled; of one name they come in their order.

    read: gives the openvino.Model, another each time: it is cut up, and what it had mapped goes
        with it.
    limit: bytes in a piece, except where what is computed between two layers has more; None is
        `LIMIT`.
    watched: whether outputs come from all over the graph. OpenVINO computes them last, and keeps
        what they are made of: of fixed shapes that counts as the weights do.
    aside: a folder for what goes from piece to piece, where that is too much for memory.
    """
    known = [_Known(inputs, aside and aside / f"case-{i}") for i, inputs in enumerate(cases)]
    model = read()
    turns = _turns(model, LIMIT if limit is None else limit, watched)
    for number in range(turns[-1].piece + 1):
        graph = _Graph(model or read(), turns)
        needed = graph.needed_after(number)
        piece = graph.piece(number, needed)
        for case, values in enumerate(known):
            results = piece.run(values.read(piece.inputs))
            values.keep(results, needed)
            for name in piece.results:
                yield case, name, results[name]
            del results
        model = None
        del graph, piece  # before the next one is compiled


class _Known:
    """What is known of one of the cases, by name; large values are in files where there may be."""

    def __init__(self, inputs: Values, folder: Path | None) -> None:
        self._values: dict[str, np.ndarray | Path] = dict(inputs)
        self._folder, self._files = folder, 0
        if folder is not None:
            folder.mkdir()

    def read(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        found = {name: self._values[name] for name in names}
        return {
            name: np.load(value) if isinstance(value, Path) else value
            for name, value in found.items()
        }

    def keep(self, found: Values, needed: set[str]) -> None:
        """Add what was found, and forget what is not needed."""
        for name in self._values.keys() - needed:
            value = self._values.pop(name)
            if isinstance(value, Path):
                value.unlink()
        for name in found.keys() & needed:
            value = found[name]
            if self._folder is not None and value.nbytes > _LARGE:
                self._files += 1
                file = self._folder / f"{self._files}.npy"
                try:
                    np.save(file, value)
                except OSError as error:  # of a full disk numpy gives no error number
                    raise ExportError(
                        f"{self._folder} cannot hold what goes from layer to layer "
                        f"({error.strerror or error}); free some space on that disk"
                    ) from error
                self._values[name] = file
            else:
                self._values[name] = value


class _Piece:
    """Some of a graph, compiled. results: those of what it gives that are the graph's outputs."""

    def __init__(
        self, model: Any, inputs: list[str], outputs: list[str], results: list[str]
    ) -> None:
        settings = {"INFERENCE_PRECISION_HINT": "f32"}
        self.compiled = openvino.Core().compile_model(model, "CPU", settings)
        self.inputs, self.outputs, self.results = inputs, outputs, results

    def run(self, values: Values) -> Values:
        results = self.compiled([values[name] for name in self.inputs], share_inputs=True)
        ports = zip(self.outputs, self.compiled.outputs, strict=True)
        return {name: results[port] for name, port in ports}


@dataclass(frozen=True)
class _Turn:
    """When an operation is run, the one at a place of OpenVINO's order: in which of the pieces.

    fixed: whether it depends on no input; then it is part of each piece that reads it.
    """

    place: int
    piece: int
    fixed: bool


@dataclass(frozen=True)
class _Op:
    """An operation of a graph, its place in the order of execution, and its turn."""

    node: Any
    place: int
    turn: _Turn


class _Graph:
    """A graph, and the pieces it is run in. Values are named after what they come from."""

    def __init__(self, model: Any, turns: Sequence[_Turn]) -> None:
        nodes = model.get_ordered_ops()
        self.ops = {
            nodes[turn.place].get_name(): _Op(nodes[turn.place], place, turn)
            for place, turn in enumerate(turns)
        }

    def piece(self, number: int, needed: set[str]) -> _Piece:
        """The piece of that number, compiled; this graph is of no use for another then.

        needed: see `needed_after`.
        """
        taken: dict[str, Any] = {}
        given: dict[str, Any] = {}
        for op in self._of(number):
            for port in op.node.inputs():
                source = port.get_source_output()
                maker = self.ops[source.get_node().get_name()]
                name = self._name(source)
                if maker.node.get_type_name() == "Parameter":
                    taken[name] = maker.node
                elif not maker.turn.fixed and maker.turn.piece < number:
                    if name not in taken:
                        shape, kind = source.get_partial_shape(), source.get_element_type()
                        taken[name] = opset.parameter(shape, kind)
                    port.replace_source_output(taken[name].output(0))
            if op.node.get_type_name() == "Result":
                source = op.node.input(0).get_source_output()
                given |= dict.fromkeys(op.node.output(0).get_names(), source)
        results = list(given)
        for op in self._of(number):
            if op.node.get_type_name() == "Parameter":
                continue  # known without being computed
            for output in op.node.outputs():
                if self._name(output) in needed:
                    given[self._name(output)] = output
        model = openvino.Model(list(given.values()), list(taken.values()))
        return _Piece(model, list(taken), list(given), results)

    def needed_after(self, number: int) -> set[str]:
        """Names of the values that later pieces read."""
        names = set()
        for op in self.ops.values():
            if not op.turn.fixed and op.turn.piece > number:
                names |= {self._name(source) for source in _sources(op.node)}
        return names

    def _of(self, number: int) -> Iterator[_Op]:
        found = self.ops.values()
        return (op for op in found if op.turn.piece == number and not op.turn.fixed)

    def _name(self, output: Any) -> str:
        """An input has its own; others are told by where they are made, the same in each graph."""
        node = output.get_node()
        if node.get_type_name() == "Parameter":
            return str(output.get_any_name())
        return f"{self.ops[node.get_name()].place}:{output.get_index()}"


def _turns(model: Any, limit: int, watched: bool) -> list[_Turn]:
    """The turns of all operations, in the order in which they come; for arguments see `outputs`."""
    turns: list[_Turn] = []
    piece = held = 0
    for place, node, weights in _in_order(model):
        if weights is not None:
            size = weights + (_size(node) if watched else 0)
            held += size
            # Only before a layer: in an attention much more would go from piece to piece.
            if held > limit and weights >= _LAYER:
                piece, held = piece + 1, size
        turns.append(_Turn(place, piece, fixed=weights is None))
    return turns


def _in_order(model: Any) -> list[tuple[int, Any, int | None]]:
    """Place, operation and the bytes of its weights, as they are to be run.

    Those that depend on no input come first, with None. Others without weights come right after
    what they read: OpenVINO's own order has all that leads to further outputs at the end, and what
    these are made of would be kept until then.
    """
    fixed: dict[str, int] = {}
    turns: dict[str, int] = {}
    found = []
    for place, node in enumerate(model.get_ordered_ops()):
        name, kind = node.get_name(), node.get_type_name()
        sources = [source.get_node().get_name() for source in _sources(node)]
        weights = sum(fixed.get(source, 0) for source in sources)
        if kind not in ("Parameter", "Result") and all(source in fixed for source in sources):
            fixed[name], turns[name] = _size(node), -1
        elif weights >= _LAYER:
            turns[name] = place
        else:
            turns[name] = max((turns[source] for source in sources), default=0)
        found.append((turns[name], (place, node, None if name in fixed else weights)))
    found.sort(key=lambda one: one[0])
    return [op for _, op in found]


def _sources(node: Any) -> list[Any]:
    return [port.get_source_output() for port in node.inputs()]


def _size(node: Any) -> int:
    """Bytes of an operation's first result, as float32; none where its shape is free."""
    shape = node.output(0).get_partial_shape()
    return 4 * math.prod(shape.to_shape()) if shape.is_static else 0
