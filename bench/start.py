"""How soon the first denoising step begins: fresh processes, without and with kept compiled models.

The clock starts before the interpreter. The first process with a cache fills it, and is told apart;
the system's own cache of files is warm in all but the very first.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from . import machine, results
from .rounds import Measure, Rounds
from .turns import Turn, Turns
from .way import Way
from .worker import Watch

# Column -> its value in a record of `begin`.
MEASURES: dict[str, Measure] = {
    "model open s": lambda record: record["open"],
    "first step begins s": lambda record: record["step"],
    "processor s": lambda record: record["processor"],
    "peak memory GB": lambda record: record["peak_memory"] and record["peak_memory"] / 1e9,
}


def add_to(commands: Any) -> None:
    about = "time from process start to the first denoising step, without and with a cache"
    parser = commands.add_parser("start", help=about, description=about)
    parser.add_argument("model", type=Path, help="a converted model folder")
    parser.add_argument("--size", type=int, help="both sides (default: the model's own)")
    parser.add_argument("--rounds", type=int, default=5, help="processes each (default: 5)")
    parser.add_argument(
        "--profile", default="native", help="or a profile and settings, as balanced,max_memory=2GB"
    )
    parser.add_argument("--engine", choices=("openvino", "onnxruntime"), default="openvino")
    results.add_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    results.check(options, "rounds")
    Way.read(options.profile)
    measured = Turns(Rounds("no cache", MEASURES))
    facts, code = machine.facts(), 0
    job = {
        "model": str(options.model),
        "way": options.profile,
        "engine": options.engine,
        "size": options.size,
    }
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        turns = {
            "no cache": Turn(f"{__name__}:begin", {**job, "cache": None}),
            "cache": Turn(f"{__name__}:begin", {**job, "cache": folder}),
        }
        try:
            measured.take({"filling the cache": turns["cache"]}, 1)
            measured.take(turns, options.rounds)
        except KeyboardInterrupt:
            code = 130
        kept = sum(file.stat().st_size for file in Path(folder).iterdir())
    if not code:
        measured.check()
    about = (
        f"{options.engine}, {options.profile}, fresh processes in turn; median (range). "
        f"The cache: {kept / 1e6:.1f} MB."
    )
    results.publish(
        options,
        {"machine": facts, "cache": kept, **job, **measured.as_json()},
        "\n\n".join([machine.sentence(facts), about, measured.markdown()]),
    )
    return code


class _Begun(BaseException):
    """The first step begins: nothing more is to be measured."""


def begin(job: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """The worker's way in: {"open", "step": seconds, "processor": seconds of all threads}."""
    way = Way.read(job["way"])
    pipe = way.open(job["model"], engine=job["engine"], cache_dir=job["cache"])
    opened = watch.seconds()

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "denoise":
            raise _Begun

    size = {"width": job["size"], "height": job["size"]}
    try:
        pipe("a picture", seed=1, callback_on_stage=stop, **{**size, **way.called})
    except _Begun:
        return {"open": opened, "step": watch.seconds(), "processor": time.process_time()}
    raise AssertionError("a picture has a first step")
