"""What is done on the GPU, each in a fresh process: see `process.run_fresh`."""

import logging
import statistics
from pathlib import Path
from typing import Any

from ..worker import Watch
from . import stand_in

PROMPT = "a rocket on a blue background"
_ROOM = 700 << 20  # bytes of the GPU that are left for a context and the libraries' own buffers


def facts(job: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """{"gpu": its name, "memory": its bytes, "driver": …, "providers": of ONNX Runtime}."""
    import onnxruntime
    import torch

    found: dict[str, Any] = {
        "onnxruntime": onnxruntime.__version__,
        "providers": onnxruntime.get_available_providers(),
        "torch": torch.__version__,
        "gpu": "none: the CPU in its place",
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found |= {"gpu": properties.name, "memory": properties.total_memory}
        found |= {"cuda": torch.version.cuda, "cores": properties.multi_processor_count}
    return found


def pocket(job: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """The bundled model's picture on "auto", and how far those of the GPU are from the CPU's.

    {"device": what "auto" takes, "f32": the largest difference of 255, "f16": …, "f16 dB": …}.
    """
    import numpy as np

    from pleinair.runtime.images.similarity import psnr

    found: dict[str, Any] = {"device": _opened(job["model"], "auto", "auto").engine.device}
    pictures = {}
    for device, precision in (("cpu", "f32"), ("cuda", "f32"), ("cuda", "f16")):
        pipe = _opened(job["model"], device, precision)
        image = pipe(PROMPT, seed=1, num_inference_steps=job["steps"]).images[0]
        pictures[device, precision] = np.asarray(image)
        watch.advance(len(pictures) / 3)
    reference = pictures.pop(("cpu", "f32"))
    for (_, precision), picture in pictures.items():
        apart = np.abs(picture.astype(int) - reference.astype(int))
        found[precision] = int(apart.max())
        found[f"{precision} dB"] = round(min(psnr(picture, reference), 99.0), 1)
    return found


def rates(job: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """Seconds of one picture of "model" in "precision", "bound" or not, after a warm-up."""
    pipe = _opened(job["model"], "cuda", job["precision"])
    pipe.engine.bound = job["bound"]
    settings = {"width": job["size"], "height": job["size"], "guidance_scale": 7.5, "seed": 1}
    opened = watch.seconds()
    load = pipe(PROMPT, num_inference_steps=2, **settings).timings.load
    watch.advance(0.5)
    spent = pipe(PROMPT, num_inference_steps=job["steps"], **settings).timings
    return {
        "ready": opened + load,
        "step": statistics.median(spent.steps),
        "decode": spent.decode,
        "picture": spent.total - spent.load,
    }


def fallback(job: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """{"device": what "auto" ends on, "said": what is logged on the way, "asked": the line that
    "cuda" is refused with}; "full": whether the GPU's memory is taken first."""
    from pleinair.runtime.errors import PleinairError

    lines = _Lines()
    logging.getLogger("pleinair").addHandler(lines)
    logging.getLogger("pleinair").setLevel(logging.INFO)
    taken = _fill() if job["full"] else None
    size = {"width": job["size"], "height": job["size"], "num_inference_steps": 1}
    pipe = _opened(job["model"], "auto", "auto")
    pipe(PROMPT, **size)
    try:
        _opened(job["model"], "cuda", "auto")(PROMPT, **size)
        asked = "it painted"
    except PleinairError as error:
        asked = str(error)
    del taken
    return {"device": pipe.engine.device, "said": lines.said, "asked": asked}


class _Lines(logging.Handler):
    """What is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def _fill() -> Any:
    """Take the GPU's memory, but for some room."""
    import torch

    if not torch.cuda.is_available():
        stand_in.full = True
        return None
    free, _ = torch.cuda.mem_get_info()
    return torch.empty(max(0, free - _ROOM), dtype=torch.uint8, device="cuda")


def _opened(model: str, device: str, precision: str) -> Any:
    from pleinair.runtime import Pipeline

    engine = "onnxruntime" if device == "cpu" else "auto"
    return Pipeline.from_pretrained(Path(model), engine=engine, device=device, precision=precision)
