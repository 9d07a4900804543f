"""stable-diffusion.cpp on the CPU, through its Python package, from one .safetensors."""

import itertools
import time
from pathlib import Path

from ..worker import Watch
from . import Job, Times, missing, settings

SETTINGS = "type", "conv_direct", "flash_attention"
# Its DDIM spaces timesteps from the end ("trailing"): other steps, but as many, and the same work.
_METHODS = {"ddim": "ddim_trailing", "euler": "euler", "euler_a": "euler_a", "lcm": "lcm"}
# An ancestral sampler draws all of its noise, which its own default of 0 would leave out.
_ETA = {"euler_a": 1.0}


def unable(job: Job) -> str | None:
    if absent := missing("stable_diffusion_cpp"):
        return absent
    if job.single_file is None:
        return "needs the checkpoint as one file: --single-file FILE"
    if not Path(job.single_file).is_file():
        return f"{job.single_file}: no such file"
    return None if job.scheduler in _METHODS else f"it has no {job.scheduler}"


def paint(job: Job, watch: Watch) -> Times:
    """Its progress calls, one as sampling begins and one a step, tell the stages apart.

    The random numbers are torch's on the CPU ("cpu"), as for the others. type: what the weights
    are turned into, as q8_0 (its own default: as they are stored).
    """
    from stable_diffusion_cpp import StableDiffusion

    asked = settings(job.way)
    direct = asked.get("conv_direct") == "true"
    more = {"wtype": asked["type"]} if "type" in asked else {}
    model = StableDiffusion(
        diffusion_flash_attn=asked.get("flash_attention") == "true",
        diffusion_conv_direct=direct,
        vae_conv_direct=direct,
        **more,
        model_path=job.single_file,
        vae_decode_only=True,
        n_threads=job.threads,
        rng_type="cpu",
        sampler_rng_type="cpu",
        verbose=False,
    )
    ready = watch.seconds()
    marks: list[float] = []

    def on_progress(step: int, steps: int, seconds: float) -> None:
        marks.append(time.perf_counter())
        watch.advance(step / (steps + 1))

    begun = time.perf_counter()
    [image] = model.generate_image(
        prompt=job.prompt,
        negative_prompt="",
        width=job.size,
        height=job.size,
        cfg_scale=job.guidance,
        sample_method=_METHODS[job.scheduler],
        scheduler="discrete",
        sample_steps=job.steps,
        eta=_ETA.get(job.scheduler, 0.0),
        seed=job.seed,
        progress_callback=on_progress,
    )
    decoded = time.perf_counter()
    image.save(job.output)
    return Times(
        ready=ready,
        encode=marks[0] - begun,
        steps=[after - before for before, after in itertools.pairwise(marks)],
        decode=decoded - marks[-1],
        picture=time.perf_counter() - begun,
    )
