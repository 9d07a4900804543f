"""openvino_genai's Text2ImagePipeline, shapes fixed before it compiles.

Without `precision` it computes in OpenVINO's own for the processor, as people run it.
"""

import time
from pathlib import Path
from typing import Any

from pleinair.runtime import families
from pleinair.runtime.engines import cores
from pleinair.runtime.model.bundle import Bundle

from ..worker import Watch
from . import Job, Times, missing, settings

SETTINGS = "precision", "model"
_TYPES = {
    "ddim": "DDIM",
    "euler": "EULER_DISCRETE",
    "euler_a": "EULER_ANCESTRAL_DISCRETE",
    "lcm": "LCM",
    "pndm": "PNDM",
}


def unable(job: Job) -> str | None:
    absent = missing("openvino_genai", "openvino_tokenizers")
    if absent:
        return absent
    if "openvino" not in Bundle.open(job.model).graphs:
        return "the folder has no OpenVINO graphs"
    tokenizer = Path(job.model) / "tokenizer" / "openvino_tokenizer.xml"
    return None if tokenizer.is_file() else f"the folder has no {tokenizer.name}"


def paint(job: Job, watch: Watch) -> Times:
    """Its own clock tells the stages, in milliseconds, and the steps, in microseconds."""
    from openvino_genai import Text2ImagePipeline
    from PIL import Image

    pipe = Text2ImagePipeline(job.model)
    pipe.set_scheduler(_scheduler(job))
    pipe.reshape(1, job.size, job.size, job.guidance)
    asked = settings(job.way).get("precision")
    hint = {"INFERENCE_PRECISION_HINT": asked} if asked else {}
    # Beside other processes: pinned, all would share the first cores.
    pinned = {"ENABLE_CPU_PINNING": False} if cores.leave_some(job.threads) else {}
    pipe.compile("CPU", INFERENCE_NUM_THREADS=job.threads, **hint, **pinned)

    def on_step(step: int, total: int, latent: object) -> bool:
        watch.advance((step + 1) / (total + 1))
        return False

    # Where there is no unconditional branch, it refuses even an empty one.
    family = families.open_model(job.model)
    guided = family.guidance(job.guidance, family.options()).guides
    negative = {"negative_prompt": ""} if guided else {}
    arguments = {**negative, "width": job.size, "height": job.size, "rng_seed": job.seed}
    arguments["guidance_scale"] = job.guidance
    pipe.generate(job.prompt, num_inference_steps=1, **arguments)  # each graph has run once
    ready = watch.seconds()
    begun = time.perf_counter()
    tensor = pipe.generate(job.prompt, num_inference_steps=job.steps, callback=on_step, **arguments)
    Image.fromarray(tensor.data[0]).save(job.output)
    picture = time.perf_counter() - begun
    spent = pipe.get_performance_metrics()
    return Times(
        ready=ready,
        encode=sum(spent.get_text_encoder_infer_duration().values()) / 1e3,
        steps=[duration / 1e6 for duration in spent.raw_metrics.iteration_durations],
        decode=spent.get_vae_decoder_infer_duration() / 1e3,
        picture=picture,
    )


def _scheduler(job: Job) -> Any:
    from openvino_genai import Scheduler

    config = Path(job.model) / "scheduler" / "scheduler_config.json"
    return Scheduler.from_config(config, getattr(Scheduler.Type, _TYPES[job.scheduler]))
