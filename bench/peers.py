"""The same picture through several systems, in turn, so that the machine's moods hit all alike."""

import argparse
import itertools
import statistics
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pleinair.runtime import catalog
from pleinair.runtime.bundle import Bundle
from pleinair.runtime.errors import EngineError, SettingError
from pleinair.runtime.settings import Settings

from . import machine, results, systems
from .process import run_fresh
from .progress import bars
from .rounds import Measure, Rounds

BASELINE = "openvino_genai"

_PROMPT = "a photograph of an astronaut riding a horse"


def _median_step(picture: dict[str, Any]) -> float:
    # The first step touches memory for the first time; it says nothing about the others.
    return float(statistics.median(picture["steps"][1:] or picture["steps"]))


# Column -> its value in a picture's measurements.
MEASURES: dict[str, Measure] = {
    "start-up s": lambda picture: picture["ready"],
    "text encoding s": lambda picture: picture["encode"],
    "s a step, median": _median_step,
    "s a step, mean": lambda picture: statistics.mean(picture["steps"]),
    "decode s": lambda picture: picture["decode"],
    "prompt to PNG s": lambda picture: picture["picture"],
    "whole process s": lambda picture: picture["process"],
    "peak memory GB": lambda picture: picture["peak_memory"] and picture["peak_memory"] / 1e9,
}


def add_to(commands: Any) -> None:
    about = "paint the same picture with several systems, in turn, and compare"
    parser = commands.add_parser("peers", help=about, description=about)
    parser.add_argument("model", type=Path, help="a converted model folder")
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FOLDER", help="what it was made from, for diffusers"
    )
    parser.add_argument(
        "--systems",
        nargs="+",
        type=lambda name: name.replace("-", "_"),
        choices=systems.names(),
        default=systems.names(),
        metavar="SYSTEM",
        help=f"any of {', '.join(systems.names())} (default: all)",
    )
    parser.add_argument("--prompt", default=_PROMPT, help=f"default: {_PROMPT}")
    parser.add_argument("--size", type=int, default=512, help="both sides (default: 512)")
    parser.add_argument("--steps", type=int, default=20, help="default: 20")
    parser.add_argument("--guidance", type=float, default=7.5, help="default: 7.5")
    parser.add_argument("--scheduler", choices=systems.SCHEDULERS, help="default: the model's own")
    parser.add_argument("--rounds", type=int, default=2, help="pictures a system (default: 2)")
    parser.add_argument(
        "--threads", type=int, default=machine.physical_cores(), help="default: physical cores"
    )
    results.add_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    results.check(options)
    if options.rounds < 1:
        raise SettingError(f"rounds is {options.rounds}; give 1 or more")
    comparison = Comparison(_job(options), machine.facts())
    code = 0
    try:
        comparison.measure(list(dict.fromkeys(options.systems)), options.rounds)
    except KeyboardInterrupt:
        code = 130
    if not comparison.rounds.records and not code:
        reasons = (f"{name}: {reason}" for name, reason in comparison.skipped.items())
        raise EngineError(f"nothing could be measured: {'; '.join(reasons)}")
    results.publish(options, comparison.as_json(), comparison.markdown())
    return code


def _job(options: argparse.Namespace) -> systems.Job:
    """Checked as the runtime checks it, before any process is started."""
    bundle = Bundle.open(options.model)
    Settings.checked(
        bundle,
        catalog.defaults(bundle),
        width=options.size,
        height=options.size,
        num_inference_steps=options.steps,
        guidance_scale=options.guidance,
        scheduler=options.scheduler,
    )
    if options.threads < 1:
        raise SettingError(f"threads is {options.threads}; give 1 or more")
    return systems.Job(
        model=str(options.model),
        checkpoint=options.checkpoint and str(options.checkpoint),
        prompt=options.prompt,
        size=options.size,
        steps=options.steps,
        guidance=options.guidance,
        scheduler=options.scheduler or _own_scheduler(bundle),
        threads=options.threads,
        seed=42,
        output="",
    )


def _own_scheduler(bundle: Bundle) -> str:
    own = bundle.scheduler.get("_class_name")
    for name, kind in systems.SCHEDULERS.items():
        if kind == own:
            return name
    raise SettingError(
        f"the model's own {own} is not in every system; give --scheduler, "
        f"one of {', '.join(systems.SCHEDULERS)}"
    )


@dataclass
class Comparison:
    """Pictures painted so far, and which systems could not take part.

    rounds: a `systems.Times` as a dict for each picture, with "process" and "peak_memory".
    skipped: system -> reason.
    """

    job: systems.Job
    machine: dict[str, Any]
    rounds: Rounds = field(default_factory=lambda: Rounds(BASELINE, MEASURES))
    skipped: dict[str, str] = field(default_factory=dict)

    def measure(self, wanted: list[str], rounds: int) -> None:
        """Paint with A, B, C, then A, B, C again: drift of the machine hits all alike."""
        with bars() as progress:
            for name in wanted:
                if reason := systems.load(name).unable(self.job):
                    self._skip(name, reason, progress)
            able = [name for name in wanted if name not in self.skipped]
            task = progress.add_task("", total=rounds * len(able))
            for i, (number, name) in enumerate(itertools.product(range(1, rounds + 1), able)):
                what = f"round {number} of {rounds}: {name}"
                progress.update(task, completed=i, description=what)
                if name not in self.skipped:  # it may have failed in an earlier round
                    self._paint(name, number, progress, task)
            progress.update(task, completed=rounds * len(able))

    def _paint(self, name: str, number: int, progress: Any, task: Any) -> None:
        done = progress.tasks[task].completed
        with tempfile.TemporaryDirectory() as folder:
            job = asdict(self.job) | {"output": str(Path(folder) / "picture.png"), "system": name}
            try:
                times = run_fresh(
                    f"{systems.__name__}:paint",
                    job,
                    lambda share: progress.update(task, completed=done + share),
                )
            except EngineError as error:
                self._skip(name, f"failed in round {number}: {error}", progress)
                return
        self.rounds.records.append({"name": name, "round": number} | times)
        progress.console.print(
            f"round {number}: {name}: {times['picture']:.1f} s a picture, "
            f"{_median_step(times):.2f} s a step"
        )

    def _skip(self, name: str, reason: str, progress: Any) -> None:
        self.skipped[name] = reason
        progress.console.print(f"{name}: skipped: {reason}")

    def as_json(self) -> dict[str, Any]:
        job = {key: value for key, value in asdict(self.job).items() if key != "output"}
        facts = {"machine": self.machine, "job": job, "skipped": self.skipped}
        return facts | self.rounds.as_json()

    def markdown(self) -> str:
        job = self.job
        about = (
            f"{job.size}x{job.size}, {job.steps} steps of {job.scheduler}, guidance "
            f"{job.guidance:g}, batch 1, {job.threads} threads. Each picture in a fresh process, "
            "systems in turn; median (range over the rounds)."
        )
        skipped = [f"{name}: skipped: {reason}" for name, reason in self.skipped.items()]
        parts = [machine.sentence(self.machine), about, self.rounds.markdown(), *skipped]
        return "\n\n".join(parts)
