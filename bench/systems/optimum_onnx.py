"""optimum's ORTStableDiffusionPipeline on ONNX Runtime, the same folder."""

from typing import Any

from pleinair.runtime.model.bundle import Bundle

from ..worker import Watch
from . import Job, Times, missing
from .diffusers import paint_with

SETTINGS = ("model",)


def unable(job: Job) -> str | None:
    held = Bundle.open(job.model).graphs
    absent = missing("torch", "diffusers", "onnxruntime", "optimum.onnxruntime")
    return absent or (None if "onnx" in held else "the folder has no ONNX graphs")


def paint(job: Job, watch: Watch) -> Times:
    return paint_with(_open(job), job, watch)


def _open(job: Job) -> Any:
    from onnxruntime import SessionOptions
    from optimum.onnxruntime import ORTStableDiffusionPipeline

    options = SessionOptions()
    options.intra_op_num_threads = job.threads
    return ORTStableDiffusionPipeline.from_pretrained(
        job.model,
        export=False,
        provider="CPUExecutionProvider",
        session_options=options,
        local_files_only=True,
    )
