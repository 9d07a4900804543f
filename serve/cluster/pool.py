"""Lines painted by a pool of painters on a Ray cluster, through Ray Data."""

import pickle
from collections.abc import Generator, Sequence
from typing import Any

import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pleinair.runtime.engines import cores
from pleinair.runtime.errors import PleinairError

from ..lines import Line
from ..made import Made, made
from ..models import Models
from ..settings import Settings
from .connection import connected

_BLOCKS = 10_000
"""Pieces that Ray hands out, a line each where there are no more lines."""
_TRIES = 3
"""Painters that may die over a line: then it is the line's fault."""


def painted(lines: Sequence[Line], setup: Settings) -> Generator[Made, None, None]:
    """What becomes of the lines, as it is done, in any order; each once.

    A line whose painter dies is painted again by another.
    """
    with connected():
        left = {line.file: line for line in lines}
        for one in _stream(lines, setup):
            if left.pop(one.file, None):
                yield one
        if left:
            raise PleinairError(f"{len(left)} pictures got lost; run it again for what is missing")


class Painter:
    """An actor that paints lines, one at a time."""

    def __init__(self, setup: Settings, tries: Any) -> None:
        self._models, self._tries = Models.of(setup), tries

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        line: Line = pickle.loads(row["line"])
        if ray.get(self._tries.begun.remote(line.file)) > _TRIES:
            return vars(Made(line.file, error=f"{_TRIES} painters died over it"))
        return vars(made(line, self._models))


class Tries:
    """How often each line was begun."""

    def __init__(self) -> None:
        self._begun: dict[str, int] = {}

    def begun(self, file: str) -> int:
        self._begun[file] = self._begun.get(file, 0) + 1
        return self._begun[file]


def _stream(lines: Sequence[Line], setup: Settings) -> Generator[Made, None, None]:
    context = DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    threads = setup.threads or cores.physical_cores()
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    tries = ray.remote(num_cpus=0, scheduling_strategy=here)(Tries).remote()
    rows = [{"line": pickle.dumps(line)} for line in lines]
    data = ray.data.from_items(rows, override_num_blocks=min(len(rows), _BLOCKS)).map(
        Painter,
        fn_constructor_args=(setup, tries),
        compute=ActorPoolStrategy(
            min_size=1,
            initial_size=min(len(rows), _painters(threads)),
            max_tasks_in_flight_per_actor=2,
        ),
        num_cpus=threads,
    )
    for row in data.iter_rows():
        yield Made(**row)


def _painters(threads: int) -> int:
    """How many find room in the cluster as it is."""
    nodes = (node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"])
    return max(1, sum(int(cpus // threads) for cpus in nodes))
