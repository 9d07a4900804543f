"""Pictures an hour over replicas of the service on Ray, beside what docs/scale.md says beforehand.

Each is measured in fresh processes, in turn: processes without Ray, as many as have cores to
themselves, and the service with so many replicas. What one process and one replica need says
beforehand what more replicas paint; then they are measured.
"""

import argparse
import contextlib
import itertools
import json
import os
import statistics
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pleinair.runtime.engines.cores import physical_cores
from pleinair.runtime.errors import EngineError, SettingError
from pleinair.runtime.speed.spread import Spread

from . import machine, results
from .markdown import table
from .process import run_fresh
from .rounds import Record, Rounds
from .turns import Turn, Turns
from .worker import Watch

_PROMPT = "a red apple"
_APPLICATION = "pleinair"
_PORT = 18_732
_PATIENCE = 600.0
"""Seconds that a picture, or the start of a process, may take."""
_TITLES = {
    f"ray::ServeReplica:{_APPLICATION}:replica": "replicas",
    f"ray::ServeReplica:{_APPLICATION}:ingress": "ingress",
    "ray::ProxyActor": "proxy",
}
"""What the command line of a process begins with -> who spends its CPU time."""
_CLIENTS, _RAY = "clients", "Ray itself"
_GROUPS = (*_TITLES.values(), _CLIENTS, _RAY)
_FEWEST = 3
"""Pictures that a speed is told from."""


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
    header += [f"CPU s: {group}" for group in _GROUPS]
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
            yield _served(count), Turn(f"{__name__}:serve", {**job, "count": count})


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
            for group in _GROUPS
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


# Without Ray.


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
    pipe(_PROMPT, seed=0, **called)
    _meet(Path(job["meeting"]), job["count"])
    begun, processor = time.perf_counter(), time.process_time()
    for number in itertools.count(1):
        pipe(_PROMPT, seed=number, **called)
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


# The service on Ray.


def serve(job: dict[str, Any], watch: Watch) -> Record:
    """The worker's way in: clients ask for twice what replicas paint at once.

    {"seconds" a picture of all together, "processor": CPU seconds a picture by _GROUPS}.
    """
    import ray
    from ray import serve as ray_serve

    from pleinair.serve.cluster.application import application
    from pleinair.serve.settings import Settings

    count = job["count"]
    cores = count * job["threads"]
    ray.init("local", num_cpus=cores, include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder:
        setup = Settings(
            ray=True,
            model=(job["model"],),
            threads=job["threads"],
            replicas=count,
            min_replicas=count,
            data=Path(folder),
        )
        ray_serve.start(http_options={"host": "127.0.0.1", "port": _PORT})
        ray_serve.run(application(setup), name=_APPLICATION)
        try:
            return _loaded(job)
        finally:
            ray_serve.shutdown()
            ray.shutdown()


def _loaded(job: dict[str, Any]) -> Record:
    """What `serve` gives, of the service as it is now."""
    clients = 2 * job["count"]
    ended, done = threading.Event(), list[float]()

    def client(number: int) -> None:
        for seed in itertools.count(number, clients):
            if ended.is_set():
                return
            _ask(job, seed)
            done.append(time.perf_counter())

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(lambda seed: _ask(job, seed), range(2 * clients)))  # all are warm
        begun, before = time.perf_counter(), _processor()
        asking = [pool.submit(client, number) for number in range(clients)]
        wait(asking, job["seconds"], FIRST_EXCEPTION)
        seconds, after = time.perf_counter() - begun, _processor()
        ended.set()
    for one in asking:
        one.result()
    rate = per_second([moment for moment in done if moment < begun + seconds])
    spent = {group: (after[group] - before[group]) / seconds / rate for group in _GROUPS}
    return {"seconds": 1 / rate, "processor": spent}


def per_second(done: Sequence[float]) -> float:
    """How many pictures a second were done at these moments.

    The slope: it does not matter that the first and the last picture are not seen as a whole, and
    that several replicas are done at once.
    """
    if len(done) < _FEWEST:
        raise EngineError(f"{len(done)} pictures were painted, too few; give more --seconds")
    return statistics.linear_regression(sorted(done), range(len(done))).slope


def _ask(job: dict[str, Any], seed: int) -> None:
    size = f"{job['size']}x{job['size']}" if job["size"] else "auto"
    asked = {"prompt": _PROMPT, "rng_seed": seed, "num_inference_steps": job["steps"], "size": size}
    request = urllib.request.Request(
        f"http://127.0.0.1:{_PORT}/v1/images/generations",
        json.dumps(asked).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
        assert json.load(answer)["data"][0]["b64_json"]


def _processor() -> Counter[str]:
    """CPU seconds so far of this process and of all that it has started, by _GROUPS."""
    import psutil  # comes with Ray

    here, spent = psutil.Process(), Counter[str]()
    for process in (here, *here.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # it has ended
            group = _CLIENTS if process == here else _group(process.cmdline())
            times = process.cpu_times()
            spent[group] += times.user + times.system
    return spent


def _group(command: Sequence[str]) -> str:
    title = command[0] if command else ""
    return next((who for begin, who in _TITLES.items() if title.startswith(begin)), _RAY)
