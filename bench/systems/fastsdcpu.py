"""fastsdcpu's way to few steps: optimum-intel's pipeline, with a tiny decoder in the VAE's place.

It is an application, and in no package index; this calls its library as it does itself, for models
in OpenVINO's format. The tiny decoder is the folder's own, `vae_decoder_tiny`.
"""

from pathlib import Path
from typing import Any

from ..worker import Watch
from . import Job, Times, optimum_intel
from .diffusers import paint_with

SETTINGS = optimum_intel.SETTINGS


def unable(job: Job) -> str | None:
    if reason := optimum_intel.unable(job):
        return reason
    return None if _tiny(job).is_file() else f"the folder has no {_tiny(job).parent.name}"


def paint(job: Job, watch: Watch) -> Times:
    pipe = optimum_intel.opened(job)
    _take_tiny_decoder(pipe, job)
    # It fixes the sizes and leaves the batch free.
    pipe.reshape(batch_size=-1, height=job.size, width=job.size, num_images_per_prompt=1)
    pipe.compile()
    return paint_with(pipe, job, watch)


def _take_tiny_decoder(pipe: Any, job: Job) -> None:
    from optimum.intel.openvino.modeling_diffusion import OVModelVae, OVModelVaeDecoder

    decoder = OVModelVaeDecoder(
        model=pipe.load_model(_tiny(job)), parent_pipeline=pipe, model_name="vae_decoder"
    )
    pipe.vae = OVModelVae(decoder=decoder, encoder=pipe.vae.encoder)
    pipe.vae.config.scaling_factor = 1.0


def _tiny(job: Job) -> Path:
    return Path(job.model) / "vae_decoder_tiny" / "openvino_model.xml"
