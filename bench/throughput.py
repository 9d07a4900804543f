"""Pictures an hour, over streams and threads: what a server is sized by, beside the time of one.

Each setup is a fresh process that paints with as many callers as it has streams. Other systems, and
ours where it is asked for, are as many processes at once, which share the threads out: that is how
people serve what has no streams.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pleinair.runtime.engines.cores import physical_cores
from pleinair.runtime.errors import SettingError

from . import machine, memory, peers, results
from .process import run_fresh
from .rounds import Measure, Record, Rounds
from .turns import Turn, Turns
from .way import Way
from .worker import Watch

# Column -> its value in a record of `paint` or `side_by_side`.
MEASURES: dict[str, Measure] = {
    "s a picture, all together": lambda record: record["seconds"],
    "s a picture, from its call": lambda record: record["latency"],
    "peak memory GB": lambda record: record["memory"] and record["memory"] / 1e9,
}


def add_to(commands: Any) -> None:
    about = "pictures an hour over streams and threads, beside the time of one"
    parser = commands.add_parser("throughput", help=about, description=about)
    parser.add_argument("model", type=Path, help="a converted model folder")
    parser.add_argument(
        "--profiles",
        nargs="+",
        default=["native"],
        metavar="WAY",
        help="and settings, as for speed",
    )
    parser.add_argument("--streams", nargs="+", type=int, default=[1, 2], metavar="N")
    parser.add_argument(
        "--threads",
        nargs="+",
        type=int,
        default=[physical_cores()],
        metavar="N",
        help="for all streams together (default: physical cores)",
    )
    parser.add_argument(
        "--processes",
        nargs="+",
        type=peers.system,
        default=[],
        metavar="SYSTEM",
        help="systems, as for peers, that run as so many processes instead of streams",
    )
    parser.add_argument("--pictures", type=int, default=2, help="a caller's (default: 2)")
    parser.add_argument("--engine", choices=("openvino", "onnxruntime"), default="openvino")
    parser.add_argument("--rounds", type=int, default=2, help="default: 2")
    peers.add_call(parser)
    results.add_arguments(parser)
    parser.set_defaults(run=run, checkpoint=None, single_file=None)


def run(options: argparse.Namespace) -> int:
    results.check(options, "pictures", "rounds", "size", "steps")
    if min(*options.streams, *options.threads, 1) < 1:
        raise SettingError("--streams and --threads are 1 or more")
    for way in options.profiles:
        Way.read(way)
    turns = dict(_turns(options))
    if not turns:
        raise SettingError("there are fewer threads than streams in every setup; give more")
    measured = Turns(Rounds(next(iter(turns)), MEASURES))
    facts = machine.facts()
    code = measured.measure(turns, options.rounds, _told)
    about = (
        f"{options.model}: {options.engine}, {options.size}x{options.size}, {options.steps} steps "
        f"of {options.scheduler or 'its own scheduler'}, guidance {options.guidance}. Each setup "
        f"in fresh processes, in turn; after a warm-up {options.pictures} pictures a caller, of "
        "--processes the first picture of each; median (range over the rounds)."
    )
    hourly = Rounds("", {"pictures an hour": _hourly}, measured.rounds.records)
    results.publish(
        options,
        {"machine": facts, **measured.as_json()},
        "\n\n".join([machine.sentence(facts), about, hourly.figures(), measured.markdown()]),
    )
    return code


def _turns(options: argparse.Namespace) -> Iterator[tuple[str, Turn]]:
    """Every setup by its name, those of fewer threads than streams left out."""
    shares = [
        (streams, threads)
        for threads in options.threads
        for streams in options.streams
        if streams <= threads
    ]
    called = {
        "width": options.size,
        "height": options.size,
        "num_inference_steps": options.steps,
        "guidance_scale": options.guidance,
        "scheduler": options.scheduler,
    }
    for way in options.profiles:
        for streams, threads in shares:
            job = {
                "model": str(options.model),
                "way": way,
                "engine": options.engine,
                "streams": streams,
                "threads": threads,
                "pictures": options.pictures,
                "prompt": options.prompt,
                "called": called,
            }
            name = f"{way}, {_number(streams, 'stream')}, {_number(threads, 'thread')}"
            yield name, Turn(f"{__name__}:paint", job)
    for system in options.processes:
        base = peers.job_of(system, peers.job(options))
        for processes, threads in shares:
            job = {**base, "processes": processes, "threads": threads // processes}
            name = f"{system}, {_number(processes, 'process', 'es')}, {_number(threads, 'thread')}"
            yield name, Turn(f"{__name__}:side_by_side", job)


def _number(count: int, word: str, more: str = "s") -> str:
    return f"{count} {word}{more if count > 1 else ''}"


def paint(job: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """The worker's way in: {"seconds" a picture of all callers together, "latency" of one}."""
    way = Way.read(job["way"])
    options = {name: job[name] for name in ("engine", "threads", "streams")}
    pipe = way.open(job["model"], device="cpu", **options)
    settings = {**job["called"], **way.called}
    streams, number = job["streams"], job["streams"] * job["pictures"]
    done: list[float] = []

    def picture(seed: int) -> None:
        begun = time.perf_counter()
        pipe(job["prompt"], seed=seed, **settings)
        done.append(time.perf_counter() - begun)
        watch.advance(len(done) / (number + streams))

    with ThreadPoolExecutor(streams) as callers:
        list(callers.map(picture, range(streams)))  # so that each has touched its memory
        done.clear()
        begun = time.perf_counter()
        list(callers.map(picture, range(number)))
        seconds = time.perf_counter() - begun
    return {
        "seconds": seconds / number,
        "latency": statistics.median(done),
        "memory": memory.peak(),
    }


def side_by_side(job: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """The worker's way in: the same of processes at once, each with a share of the threads.

    Each paints one picture, its first; its time is counted from when it is ready.
    """
    processes = job.pop("processes")

    def one(number: int) -> Record:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            output = str(Path(folder) / "picture.png")
            return run_fresh(f"{__package__}.systems:paint", {**job, "output": output})

    with ThreadPoolExecutor(processes) as pool:
        found = list(pool.map(one, range(processes)))
    each = [record["picture"] for record in found]
    peaks = [record["peak_memory"] for record in found]
    return {
        "seconds": 1 / sum(1 / seconds for seconds in each),
        "latency": statistics.median(each),
        "memory": sum(peaks) if None not in peaks else None,
    }


def _hourly(record: Record) -> float:
    return 3600 / float(record["seconds"])


def _told(record: Record) -> str:
    return f"{_hourly(record):.1f} pictures an hour, {record['latency']:.2f} s each"
