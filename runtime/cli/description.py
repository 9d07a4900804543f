"""What a picture's file says of how it was made."""

import argparse
from collections.abc import Mapping
from typing import Any

from .. import __version__
from ..pipeline import StableDiffusionPipeline
from ..plan import ENLARGING_GUIDANCE, ENLARGING_STRENGTH, Plan
from ..schedulers.catalog import NAMED, SOLVERS
from .adapters import embedding_record, lora_record
from .arguments import BETAS, given
from .picture import Picture

_ENLARGING = {
    "enlarge_strength": ENLARGING_STRENGTH,
    "enlarge_guidance_scale": ENLARGING_GUIDANCE,
}


def description(
    pipe: StableDiffusionPipeline, options: argparse.Namespace, picture: Picture, plan: Plan
) -> dict[str, Any]:
    """The settings of a picture that is painted, the defaults by their values."""
    settings, bundle = plan.settings, pipe.bundle
    size = {"width": settings.width, "height": settings.height}
    # What is kept of a picture brings its size back, which may be none to paint at.
    kept = plan.original is not None and plan.original.keep_unmasked
    recommended = pipe.family.recommended
    filled = {
        **({} if kept or plan.enlargement else size),
        **(_ENLARGING if "enlarge" in picture.settings else {}),
        "num_inference_steps": recommended.steps,
        "guidance_scale": recommended.guidance_scale,
        "scheduler": recommended.scheduler or _named(bundle.scheduler),
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
        "model_digest": bundle.digest or None,
        "solver": bundle.scheduler.get("_class_name"),
        "version": f"Pleinair {__version__}",
    }
    everything = {**filled, **picture.settings, **around}
    return {name: value for name, value in everything.items() if value is not None}


def _named(config: Mapping[str, Any]) -> str | None:
    """The short name of a model's own scheduler, where one stands for just its options."""
    for name, (solver, options) in NAMED.items():
        same = SOLVERS.get(str(config.get("_class_name"))) is solver
        if same and all(config.get(key, False) == value for key, value in options.items()):
            return name
    return None
