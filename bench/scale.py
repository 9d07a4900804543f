"""Pictures an hour over replicas of the service on Ray, beside what docs/scale.md says beforehand.

Each is measured in fresh processes, in turn: processes without Ray, as many as have cores to
themselves, and the service with so many replicas. What one process and one replica need says
beforehand what more replicas paint; then they are measured.
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pleinair.runtime.engines.cores import physical_cores
from pleinair.runtime.errors import EngineError, SettingError
from pleinair.runtime.speed.spread import Spread

from . import machine, results
from .markdown import table
from .process import run_fresh
from .replicas import GROUPS, PROMPT
from .rounds import Record, Rounds
from .turns import Turn, Turns
from .worker import Watch

_PATIENCE = 600.0
"""Seconds that the start of a process may take."""


def add_to(commands: Any) -> None:
    about = "pictures an hour over replicas on Ray, and whether they are what was to be expected"
    parser = commands.add_parser("scale", help=about, description=about)
    parser.add_argument("model", type=Path, help="a converted model folder, better a small one")
    parser.add_argument("--replicas", nargs="+", type=int, default=[1, 2, 4], metavar="N")
    parser.add_argument("--threads", type=int, default=1, help="of a replica (default: 1)")
    parser.add_argument("--size", type=int, help="both sides (default: the model's own)")
    parser.add_argument("--steps", type=int, default=20, help="default: 20")
    parser.add_argument(
        "--seconds", type=float, default=30.0, help="of each measurement (default: 30)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    results.add_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    results.check(options, "rounds", "steps", "threads")
    if min(options.replicas) < 1:
        raise SettingError(f"--replicas has {min(options.replicas)}; give 1 or more")
    if not options.seconds > 0:
        raise SettingError(f"--seconds is {options.seconds:g}; give more than 0")
    measured, facts = Turns(Rounds("", {"pictures an hour": _hourly})), machine.facts()
    code = measured.measure(dict(_turns(options)), options.rounds, _told)
    rounds = measured.rounds
    about = (
        f"{options.model}: {options.steps} steps, {options.threads} thread(s) a process or "
        f"replica; {options.seconds:g} s each, in fresh processes, in turn; pictures an hour, "
        "median (range over the rounds). CPU s are a picture's, by who spends them."
    )
    header = ["replicas", "expected", "measured", "measured / expected"]
    header += [f"CPU s: {group}" for group in GROUPS]
    skipped = [f"{name}: skipped: {reason}" for name, reason in measured.skipped.items()]
    tables = [rounds.figures(), table(header, _rows(options, rounds.records))]
    results.publish(
        options,
        {"machine": facts, **measured.as_json()},
        "\n\n".join([machine.sentence(facts), about, *tables, *skipped]),
    )
    return code


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a picture needs: docs/scale.md, "Checked".

    seconds: of a process without Ray, on a machine as busy. processor: CPU seconds of those.
    handing: seconds more that one replica takes. beside: CPU seconds more, whoever spends them.
    """

    seconds: float
    processor: float
    handing: float
    beside: float


def expected(replicas: int, cores: int, needs: Needs) -> float:
    """Pictures a second of replicas that share a machine's cores with all else."""
    painted = replicas / (needs.seconds + needs.handing)
    return min(painted, cores / (needs.processor + needs.beside))


def _turns(options: argparse.Namespace) -> Iterator[tuple[str, Turn]]:
    """Each by its name; without Ray no more processes than have cores to themselves."""
    job = {
        "model": str(options.model),
        "threads": options.threads,
        "steps": options.steps,
        "size": options.size,
        "seconds": options.seconds,
    }
    counts = _counts(options)
    processes = {_busy(options, count) for count in counts}
    for count in sorted(processes.union(counts)):
        if count in processes:
            yield _alone(count), Turn(f"{__name__}:side_by_side", {**job, "count": count})
        if count in counts:
            yield _served(count), Turn(f"{__package__}.replicas:serve", {**job, "count": count})


def _counts(options: argparse.Namespace) -> list[int]:
    """Of replicas; one is measured in any case, since the others are said beforehand by it."""
    return sorted({1, *options.replicas})


def _busy(options: argparse.Namespace, count: int) -> int:
    """How many of so many processes have cores to themselves."""
    return max(1, min(count, physical_cores() // options.threads))


def _alone(count: int) -> str:
    return f"{count} without Ray"


def _served(count: int) -> str:
    return f"{count} on Ray"


def _hourly(record: Record) -> float:
    return 3600 / float(record["seconds"])


def _told(record: Record) -> str:
    return f"{_hourly(record):.0f} pictures an hour"


def _rows(options: argparse.Namespace, records: Sequence[Record]) -> Iterator[list[object]]:
    """A row for each number of replicas that all figures are there for."""
    rounds: dict[int, dict[str, Record]] = {}
    for record in records:
        rounds.setdefault(record["round"], {})[record["name"]] = record
    for count in _counts(options):
        needed = {_alone(1), _alone(_busy(options, count)), _served(1), _served(count)}
        whole = [taken for taken in rounds.values() if needed <= taken.keys()]
        if not whole:
            continue
        said = [
            3600 * expected(count, physical_cores(), _needs(options, taken, count))
            for taken in whole
        ]
        found = [taken[_served(count)] for taken in whole]
        hourly = [_hourly(record) for record in found]
        ratios = [one / other for one, other in zip(hourly, said, strict=True)]
        spent = [
            f"{statistics.median(record['processor'][group] for record in found):.3f}"
            for group in GROUPS
        ]
        yield [count, Spread.of(said), Spread.of(hourly), Spread.of(ratios), *spent]


def _needs(options: argparse.Namespace, taken: Mapping[str, Record], count: int) -> Needs:
    """By what one process, one replica and as many processes as have cores took in a round."""
    one, replica, busy = taken[_alone(1)], taken[_served(1)], taken[_alone(_busy(options, count))]
    return Needs(
        seconds=busy["each"],
        processor=busy["processor"],
        handing=max(0.0, replica["seconds"] - one["seconds"]),
        beside=max(0.0, sum(replica["processor"].values()) - one["processor"]),
    )


def side_by_side(job: dict[str, Any], watch: Watch) -> Record:
    """The worker's way in: so many processes at once.

    {"seconds" a picture of all together, "each" of one of them, "processor": CPU seconds}.
    """
    count = job["count"]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(count) as pool:
        target, each = f"{__name__}:paint", {**job, "meeting": folder}
        limit = 2 * _PATIENCE + job["seconds"]
        found = list(pool.map(lambda _: run_fresh(target, each, limit=limit), range(count)))
    seconds = [one["seconds"] for one in found]
    return {
        "seconds": 1 / sum(1 / one for one in seconds),
        "each": statistics.mean(seconds),
        "processor": statistics.mean(one["processor"] for one in found),
    }


def paint(job: dict[str, Any], watch: Watch) -> dict[str, float]:
    """The worker's way in: {"seconds", "processor": CPU seconds} a picture, once all are ready."""
    from pleinair.runtime import StableDiffusionPipeline

    called = {"num_inference_steps": job["steps"], "width": job["size"], "height": job["size"]}
    pipe = StableDiffusionPipeline.from_pretrained(job["model"], threads=job["threads"])
    pipe(PROMPT, seed=0, **called)
    _meet(Path(job["meeting"]), job["count"])
    begun, processor = time.perf_counter(), time.process_time()
    for number in itertools.count(1):
        pipe(PROMPT, seed=number, **called)
        seconds = time.perf_counter() - begun
        if seconds >= job["seconds"]:
            break
    return {"seconds": seconds / number, "processor": (time.process_time() - processor) / number}


def _meet(folder: Path, count: int) -> None:
    """Wait until so many processes have come here."""
    (folder / str(os.getpid())).touch()
    until = time.monotonic() + _PATIENCE
    while len(list(folder.iterdir())) < count:
        if time.monotonic() > until:
            raise EngineError("another process did not begin to paint")
        time.sleep(0.01)
