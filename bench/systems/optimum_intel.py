"""optimum-intel's OVStableDiffusionPipeline, shapes fixed before it compiles.

Without `precision` it computes in OpenVINO's own for the processor, as people run it. `model` is
another folder, as the one in hybrid 8 bits that `python -m pleinair.bench hybrid` makes.
"""

from typing import Any

from pleinair.runtime.model.bundle import Bundle

from ..worker import Watch
from . import Job, Times, missing, settings
from .diffusers import paint_with

SETTINGS = "precision", "model"


def unable(job: Job) -> str | None:
    absent = missing("torch", "diffusers", "openvino", "optimum.intel")
    held = Bundle.open(job.model).graphs
    return absent or (None if "openvino" in held else "the folder has no OpenVINO graphs")


def paint(job: Job, watch: Watch) -> Times:
    pipe = opened(job)
    if job.guidance > 1:  # its static UNet is always of batch 2
        pipe.reshape(batch_size=1, height=job.size, width=job.size, num_images_per_prompt=1)
    pipe.compile()
    return paint_with(pipe, job, watch)


def opened(job: Job) -> Any:
    """The pipeline, not compiled."""
    from optimum.intel import OVStableDiffusionPipeline

    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": job.threads}
    if asked := settings(job.way).get("precision"):
        config["INFERENCE_PRECISION_HINT"] = asked
    return OVStableDiffusionPipeline.from_pretrained(
        job.model, compile=False, ov_config=config, local_files_only=True
    )


def quantize(job: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """The worker's way in: "model" in hybrid 8 bits, written into "folder".

    The UNet's convolutions compute in 8 bits, of its other layers the weights are stored so
    (optimum-intel's strongest setting for diffusion); "samples" of its calls on "prompts" are
    looked at.
    """
    from optimum.intel import OVStableDiffusionPipeline, OVWeightQuantizationConfig

    config = OVWeightQuantizationConfig(
        bits=8, dataset=job["prompts"], num_samples=job["samples"], quant_method="hybrid"
    )
    pipe = OVStableDiffusionPipeline.from_pretrained(
        job["model"],
        quantization_config=config,
        ov_config={"INFERENCE_NUM_THREADS": job["threads"]},
        local_files_only=True,
    )
    pipe.save_pretrained(job["folder"])
    return {}
