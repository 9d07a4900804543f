"""diffusers' StableDiffusionPipeline on torch, the CPU.

precision: bf16 or f32; without it bf16 where the processor computes in it, else f32.
"""

import itertools
import time
from pathlib import Path
from typing import Any

from pleinair.runtime.speed.machine import features

from ..worker import Watch
from . import SCHEDULERS, Job, Times, missing, settings

SETTINGS = ("precision",)
_HAVE_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}


def unable(job: Job) -> str | None:
    absent = missing("torch", "diffusers", "transformers")
    if absent:
        return absent
    if job.checkpoint is None:
        return "needs the diffusers folder: --checkpoint FOLDER"
    if settings(job.way).get("precision", "f32") not in ("bf16", "f32"):
        return "precision is bf16 or f32"
    index = Path(job.checkpoint) / "model_index.json"
    return None if index.is_file() else f"{index}: missing, so this is no diffusers folder"


def paint(job: Job, watch: Watch) -> Times:
    import torch

    torch.set_num_threads(job.threads)
    native = "f32" if _HAVE_BF16.isdisjoint(features()) else "bf16"
    asked = settings(job.way).get("precision", native)
    pipe = _open(job)
    # Whatever the files have, and the libraries would choose for them.
    pipe.to({"bf16": torch.bfloat16, "f32": torch.float32}[asked])
    return paint_with(pipe, job, watch)


def paint_with(pipe: Any, job: Job, watch: Watch) -> Times:
    """The pipeline's own stages called one by one, as its documentation allows, to time each.

    pipe: a StableDiffusionPipeline of diffusers, or one that has its methods.
    """
    import diffusers
    import torch

    pipe.set_progress_bar_config(disable=True)
    solver = getattr(diffusers, SCHEDULERS[job.scheduler])
    pipe.scheduler = solver.from_config(pipe.scheduler.config)
    with torch.inference_mode():
        sides = {"width": job.size, "height": job.size, "guidance_scale": job.guidance}
        pipe(job.prompt, num_inference_steps=1, **sides)  # each network has run once
        ready = watch.seconds()
        begun = time.perf_counter()
        # A latent consistency model is told its guidance, and never asked without the prompt.
        guided = job.guidance > 1 and pipe.unet.config.time_cond_proj_dim is None
        condition, uncondition = pipe.encode_prompt(
            job.prompt, "cpu", 1, guided, negative_prompt=""
        )
        encoded = time.perf_counter()
        marks = [encoded]
        latents = pipe(
            prompt_embeds=condition,
            negative_prompt_embeds=uncondition,
            num_inference_steps=job.steps,
            **sides,
            generator=torch.Generator().manual_seed(job.seed),
            callback_on_step_end=_marking(marks, job, watch),
            output_type="latent",
        ).images
        denoised = time.perf_counter()
        decoded = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
        image = pipe.image_processor.postprocess(decoded, output_type="pil")[0]
        done = time.perf_counter()
    image.save(job.output)
    return Times(
        ready=ready,
        encode=encoded - begun,
        steps=[after - before for before, after in itertools.pairwise(marks)],
        decode=done - denoised,
        picture=time.perf_counter() - begun,
    )


def _open(job: Job) -> Any:
    import diffusers

    return diffusers.StableDiffusionPipeline.from_pretrained(
        job.checkpoint, safety_checker=None, requires_safety_checker=False, local_files_only=True
    )


def _marking(marks: list[float], job: Job, watch: Watch) -> Any:
    def on_step(pipe: Any, step: int, timestep: Any, tensors: Any) -> Any:
        marks.append(time.perf_counter())
        watch.advance((step + 1) / (job.steps + 1))
        return tensors

    return on_step
