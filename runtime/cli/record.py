"""What a picture's file says of how it was made."""

import argparse
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from PIL import Image

from ..pipeline import StableDiffusionPipeline
from ..schedulers.catalog import NAMED, SOLVERS
from . import enlarging
from .adapters import embedding_record, lora_record
from .arguments import BETAS, given, picture_input
from .picture import Picture
from .repeat import bundle_digest


def record(
    pipe: StableDiffusionPipeline,
    options: argparse.Namespace,
    picture: Picture,
    image: Image.Image | None,
) -> dict[str, Any]:
    """The settings of a picture painted, the defaults by their values; image None was withheld."""
    defaults, bundle = pipe.defaults, pipe.bundle
    size = {}
    # What is kept of a picture brings its own size back, which may be none to paint at.
    kept = options.keep_unmasked or enlarging.is_enough(picture.settings, picture_input(options))
    if image and not kept:
        scale = picture.settings.get("enlarge", 1)
        size = {"width": round(image.width / scale), "height": round(image.height / scale)}
    filled = {
        **size,
        **(enlarging.DEFAULTS if "enlarge" in picture.settings else {}),
        "num_inference_steps": defaults.steps,
        "guidance_scale": defaults.guidance_scale,
        "scheduler": defaults.scheduler or _named(bundle.scheduler),
        "profile": pipe.profile.name,
        **pipe.profile.settings,
    }
    around = {
        "noise_seed": picture.noise_seed,
        **given(options, BETAS),
        "loras": [lora_record(file) for file in pipe.loras] or None,
        "embeddings": [embedding_record(file) for file in pipe.embeddings] or None,
        "watermark": options.watermark,
        "precision": options.precision,
        "engine": pipe.engine.name,
        "device": pipe.engine.device,
        "model": bundle.name,
        "model_digest": bundle_digest(bundle) or None,
        "solver": bundle.scheduler.get("_class_name"),
        "version": f"Pleinair {_version()}",
    }
    said = {**filled, **picture.settings, **around}
    return {name: value for name, value in said.items() if value is not None}


def _named(config: Mapping[str, Any]) -> str | None:
    """The short name of a model's own scheduler, where one stands for just its options."""
    for name, (solver, options) in NAMED.items():
        own = SOLVERS.get(str(config.get("_class_name"))) is solver
        if own and all(config.get(key, False) == value for key, value in options.items()):
            return name
    return None


def _version() -> str:
    try:
        return version("pleinair")
    except PackageNotFoundError:  # run from a checkout that is on the path but not installed
        return "(not installed)"
