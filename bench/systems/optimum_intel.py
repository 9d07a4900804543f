"""optimum-intel's OVStableDiffusionPipeline on the same folder, shapes fixed before it compiles."""

from typing import Any

from pleinair.runtime.model.bundle import Bundle

from ..worker import Watch
from . import Job, Times, missing
from .diffusers import paint_with


def unable(job: Job) -> str | None:
    held = Bundle.open(job.model).graphs
    absent = missing("torch", "diffusers", "openvino", "optimum.intel")
    return absent or (None if "openvino" in held else "the folder has no OpenVINO graphs")


def paint(job: Job, watch: Watch) -> Times:
    return paint_with(_open(job), job, watch)


def _open(job: Job) -> Any:
    from optimum.intel import OVStableDiffusionPipeline

    # f32, as in profile exact: a CPU with bf16 matrices would take those by itself.
    config = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": job.threads,
    }
    pipe = OVStableDiffusionPipeline.from_pretrained(
        job.model, compile=False, ov_config=config, local_files_only=True
    )
    if job.guidance > 1:  # its static UNet is always of batch 2
        pipe.reshape(batch_size=1, height=job.size, width=job.size, num_images_per_prompt=1)
    pipe.compile()
    return pipe
