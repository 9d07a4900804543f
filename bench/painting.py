"""One configuration of ours at work: what a fresh process does for `speed`."""

import statistics
from dataclasses import asdict
from typing import Any

from pleinair.runtime.families.family import Family

from .gauge import Gauge
from .memory import Stages
from .way import Way
from .worker import Watch


def paint(job: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """The worker's way in: `job` is `Configuration.job`.

    {"ready": seconds until the model is open, without compiling,
    "pictures": the `Timings` of each timed call as dicts, of a warm-up only its "load" counts, as
    the first one's, "graphs": the `Evaluations` of all, "memory": stage -> peak bytes}.
    """
    with Stages("open") as stages:
        pipe = opened(job)
        ready = watch.seconds()
        pipe.parts.engine = gauge = Gauge(pipe.engine)
        calls = arguments(job, pipe.family) | {
            "callback_on_stage": lambda stage, *_: stages.enter(stage),
            "callback_on_step_end": _reporter(job, watch),
        }
        load = 0.0
        if job["warm_up"]:
            warm = {"num_inference_steps": job["warm_up"], "num_images_per_prompt": 1}
            load = pipe(**calls | warm).timings.load
            gauge.forget()
        pictures = [asdict(pipe(**calls).timings) for _ in range(job["repeats"])]
    pictures[0]["load"] += load
    pictures[0]["total"] += load
    return {
        "ready": ready,
        "pictures": pictures,
        "graphs": [asdict(graph) for graph in gauge.graphs],
        "memory": stages.peaks,
    }


def opened(job: dict[str, Any]) -> Any:
    """The pipeline of a job."""
    options = {name: job[name] for name in ("engine", "device", "threads")}
    return Way.read(job["way"]).open(job["model"], precision=job["precision"], **options)


def arguments(job: dict[str, Any], family: Family) -> dict[str, Any]:
    """What the call of a job is given; the way's own settings win.

    Models that paint from a picture get an example of one.
    """
    names = ("prompt", "seed", "width", "height", "num_inference_steps", "guidance_scale")
    names += ("num_images_per_prompt", "scheduler")
    shared = family.example_pictures(job["width"]) | {name: job[name] for name in names}
    return shared | dict(Way.read(job["way"]).called)


def _reporter(job: dict[str, Any], watch: Watch) -> Any:
    """Tells how far the timed pictures are, by their steps."""
    each = Way.read(job["way"]).called.get("num_inference_steps", job["num_inference_steps"])
    steps = each * job["num_images_per_prompt"] * job["repeats"]
    done = -job["warm_up"]

    def on_step(*_: Any) -> None:
        nonlocal done
        done += 1
        watch.advance(max(0, done) / (steps + 1))

    return on_step


def seconds_a_step(record: dict[str, Any]) -> float:
    """The mean over all timed steps of a record of `paint`: with cached features they differ."""
    return statistics.mean(s for picture in record["pictures"] for s in picture["steps"])
