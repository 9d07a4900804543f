"""Pleinair's runtime on OpenVINO, profile exact or as the job's way says."""

from pleinair.runtime.model.bundle import Bundle

from ..way import Way
from ..worker import Watch
from . import Job, Times


def unable(job: Job) -> str | None:
    held = Bundle.open(Way.read(job.way).opened.get("model", job.model)).graphs
    return None if "openvino" in held else "the folder has no OpenVINO graphs"


def paint(job: Job, watch: Watch) -> Times:
    return paint_on("openvino", job, watch)


def paint_on(engine: str, job: Job, watch: Watch) -> Times:
    """All is compiled and has run once before the clock of the picture starts, as elsewhere."""
    way = Way.read(job.way)
    pipe = way.open(job.model, engine=engine, device="cpu", threads=job.threads)
    settings = {
        "width": job.size,
        "height": job.size,
        "num_inference_steps": job.steps,
        "guidance_scale": job.guidance,
        "scheduler": job.scheduler,
        **way.called,
    }
    steps = settings["num_inference_steps"]
    size = settings["width"], settings["height"]
    given = {name: value for name, value in settings.items() if name not in ("width", "height")}
    pipe.warm_up([size], job.prompt, **given)
    ready = watch.seconds()
    output = pipe(
        job.prompt,
        seed=job.seed,
        callback_on_step_end=lambda _, i, *rest: watch.advance((i + 1) / (steps + 1)),
        **settings,
    )
    output.images[0].save(job.output)
    spent = output.timings
    return Times(
        ready=ready,
        encode=spent.encode,
        steps=spent.steps,
        decode=spent.decode,
        picture=watch.seconds() - ready,
    )
