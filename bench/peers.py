"""The same picture through several systems, in turn, so that the machine's moods hit all alike."""

import argparse
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.errors import PleinairError, SettingError
from pleinair.runtime.model.bundle import Bundle

from . import chart, environments, machine, results, systems
from .process import run_fresh
from .rounds import Measure, Rounds
from .turns import Turn, Turns

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
        "--single-file",
        type=Path,
        metavar="FILE",
        help="the same as one .safetensors, for stable_diffusion_cpp",
    )
    parser.add_argument(
        "--systems",
        nargs="+",
        type=system,
        default=systems.names(),
        metavar="SYSTEM",
        help=f"any of {', '.join(systems.names())} (default: all); of ours also with a way to "
        "paint, as pleinair:balanced or pleinair:fast,vae=tiny; others with settings, as "
        "openvino_genai:precision=f32 or optimum_intel:model=FOLDER",
    )
    parser.add_argument(
        "--baseline",
        type=system,
        default="openvino_genai",
        metavar="SYSTEM",
        help="what the others are compared with (default: openvino_genai)",
    )
    environments.add_arguments(parser)
    add_call(parser)
    parser.add_argument("--rounds", type=int, default=2, help="pictures a system (default: 2)")
    machine.add_threads(parser)
    results.add_arguments(parser, picture="chart")
    parser.set_defaults(run=run)


def add_call(parser: argparse.ArgumentParser) -> None:
    """What every system's call is given."""
    parser.add_argument("--prompt", default=_PROMPT, help=f"default: {_PROMPT}")
    parser.add_argument("--size", type=int, default=512, help="both sides (default: 512)")
    parser.add_argument("--steps", type=int, default=20, help="default: 20")
    parser.add_argument("--guidance", type=float, default=7.5, help="default: 7.5")
    parser.add_argument("--scheduler", choices=systems.SCHEDULERS, help="default: the model's own")


def system(text: str) -> str:
    """A file in systems/, and after a colon its settings, or of ours a way to paint."""
    name, colon, way = text.partition(":")
    name = name.replace("-", "_")
    if name not in systems.names():
        raise argparse.ArgumentTypeError(
            f"invalid choice: {text!r} (choose from {', '.join(systems.names())})"
        )
    return name + colon + way


def run(options: argparse.Namespace) -> int:
    results.check(options, "rounds", "threads")
    shared = job(options)
    pythons = environments.interpreters(options.environments, options.environment)
    jobs = {name: job_of(name, shared) for name in dict.fromkeys(options.systems)}
    measured = Turns(Rounds(options.baseline, MEASURES))
    facts, code = machine.facts(), 0
    try:
        measured.skipped.update(_unable(jobs, pythons))
        able = {name: own for name, own in jobs.items() if name not in measured.skipped}
        with tempfile.TemporaryDirectory() as folder:
            picture = str(Path(folder) / "picture.png")
            turns = {name: _turn(own, picture, pythons) for name, own in able.items()}
            measured.take(turns, options.rounds, _told)
    except KeyboardInterrupt:
        code = 130
    if not code:
        measured.check()
    everything = {"machine": facts, "job": {**asdict(shared), "output": None}} | measured.as_json()
    words = _markdown(facts, shared, measured)
    results.publish(options, everything, words, lambda: _draw(measured.rounds))
    return code


def _turn(job: dict[str, Any], picture: str, pythons: Mapping[str, str]) -> Turn:
    return Turn(f"{systems.__name__}:paint", job | {"output": picture}, pythons.get(job["system"]))


def _unable(jobs: Mapping[str, dict[str, Any]], pythons: Mapping[str, str]) -> dict[str, str]:
    """System -> why it cannot take part, asked in the environment that it would run in."""
    reasons = {}
    for name, job in jobs.items():
        python = pythons.get(job["system"])
        try:
            if python is None:
                found = systems.unable(job, None)
            else:
                found = run_fresh(f"{systems.__name__}:unable", job, python=python)
            reason = found["reason"]
        except PleinairError as error:
            reason = str(error)
        if reason:
            reasons[name] = reason
    return reasons


def _told(picture: dict[str, Any]) -> str:
    return f"{picture['picture']:.1f} s a picture, {_median_step(picture):.2f} s a step"


def job(options: argparse.Namespace) -> systems.Job:
    """Checked as the runtime checks it, before any process is started."""
    pipe = StableDiffusionPipeline.from_pretrained(options.model)
    pipe.plan(
        options.prompt,
        width=options.size,
        height=options.size,
        num_inference_steps=options.steps,
        guidance_scale=options.guidance,
        scheduler=options.scheduler,
    )
    return systems.Job(
        model=str(options.model),
        checkpoint=options.checkpoint and str(options.checkpoint),
        single_file=options.single_file and str(options.single_file),
        prompt=options.prompt,
        size=options.size,
        steps=options.steps,
        guidance=options.guidance,
        scheduler=options.scheduler or _own_scheduler(pipe.bundle),
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


def job_of(name: str, job: systems.Job) -> dict[str, Any]:
    """A system's job, with what its name says behind the colon; SettingError for what it lacks."""
    system, _, way = name.partition(":")
    systems.check(system, way)
    fields = asdict(job) | {"way": way, "system": system}
    if not systems.ours(system):
        fields["model"] = systems.settings(way).get("model", job.model)
    return fields


def _markdown(facts: dict[str, Any], job: systems.Job, measured: Turns) -> str:
    about = (
        f"{job.size}x{job.size}, {job.steps} steps of {job.scheduler}, guidance "
        f"{job.guidance:g}, batch 1, {job.threads} threads. Each picture in a fresh process, "
        "systems in turn; median (range over the rounds)."
    )
    elsewhere = {
        record["name"]: f"{record['name']} in an environment of its own: {libraries}."
        for record in measured.rounds.records
        if (libraries := _differing(record.get("libraries", {}), facts["libraries"]))
    }
    parts = [machine.sentence(facts), about, *elsewhere.values(), measured.markdown()]
    return "\n\n".join(parts)


def _draw(rounds: Rounds) -> Image.Image:
    """Seconds a picture by stage, and how many times as fast as the baseline that is."""
    seconds, column = [], "prompt to PNG s"
    for name, columns in rounds.spreads().items():
        whole = columns[column]
        records = [record for record in rounds.records if record["name"] == name]
        stages = {
            "encode": statistics.median(record["encode"] for record in records),
            "denoise": statistics.median(sum(record["steps"]) for record in records),
            "decode": statistics.median(record["decode"] for record in records),
        }
        rest = {"the rest": max(0.0, whole.median - sum(stages.values()))} if whole else {}
        seconds.append(chart.Bar.of(name, stages | rest, whole))
    ratios = [
        chart.Bar.of(name, {"ratio": ratio.median}, ratio)
        for name, columns in rounds.ratios().items()
        if (ratio := columns[column])
    ]
    title = f"Times as fast as {rounds.baseline}, prompt to PNG"
    panels = chart.Panel("Seconds a picture", "s", seconds), chart.Panel(title, "x", ratios)
    return chart.draw(panels)


def _differing(own: Mapping[str, str], ours: Mapping[str, str]) -> str:
    """The versions of an environment that are not ours, in words."""
    return ", ".join(f"{name} {v}" for name, v in own.items() if ours.get(name) != v)
