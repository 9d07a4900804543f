"""Pleinair's runtime on OpenVINO, profile exact."""

from pleinair.runtime.bundle import Bundle

from ..worker import Watch
from . import Job, Times


def unable(job: Job) -> str | None:
    held = Bundle.open(job.model).graphs
    return None if "openvino" in held else "the folder has no OpenVINO graphs"


def paint(job: Job, watch: Watch) -> Times:
    return paint_on("openvino", job, watch)


def paint_on(engine: str, job: Job, watch: Watch) -> Times:
    """Graphs are compiled inside the call, when their shapes are known: that is moved to ready."""
    from pleinair.runtime import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(
        job.model, engine=engine, device="cpu", threads=job.threads
    )
    opened = watch.seconds()
    output = pipe(
        job.prompt,
        width=job.size,
        height=job.size,
        num_inference_steps=job.steps,
        guidance_scale=job.guidance,
        seed=job.seed,
        scheduler=job.scheduler,
        callback_on_step_end=lambda _, i, *rest: watch.advance((i + 1) / (job.steps + 1)),
    )
    output.images[0].save(job.output)
    spent = output.timings
    return Times(
        ready=opened + spent.load,
        encode=spent.encode,
        steps=spent.steps,
        decode=spent.decode,
        picture=watch.seconds() - opened - spent.load,
    )
