"""Pleinair's runtime on ONNX Runtime, profile exact or as the job's way says."""

from pleinair.runtime.model.bundle import Bundle

from ..way import Way
from ..worker import Watch
from . import Job, Times, missing
from .pleinair import paint_on


def unable(job: Job) -> str | None:
    held = Bundle.open(Way.read(job.way).opened.get("model", job.model)).graphs
    return missing("onnxruntime") or (None if "onnx" in held else "the folder has no ONNX graphs")


def paint(job: Job, watch: Watch) -> Times:
    return paint_on("onnxruntime", job, watch)
