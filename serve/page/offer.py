"""What can be chosen on the page: models, profiles, samplers, files, and the server's limits."""

import logging
from typing import Any

from pleinair.runtime import StableDiffusionPipeline, __version__, schedulers
from pleinair.runtime.errors import BundleError, PleinairError
from pleinair.runtime.options.groups import PROFILES
from pleinair.runtime.speed.profiles import Profile

from ..api.fields import options_of
from ..asked import Asked
from ..models import Models
from ..settings import Settings
from .fields import groups

log = logging.getLogger("pleinair.serve")


def offered(models: Models, settings: Settings) -> dict[str, Any]:
    """What the form is made of, as JSON holds it."""
    return {
        "version": __version__,
        "models": [_model(models, name) for name in models.folders],
        "loras": list(models.loras),
        "controlnets": list(models.controlnets),
        "groups": groups({*options_of(models), "seed"}),
        "limits": {
            "num_inference_steps": settings.max_steps,
            "pixels": settings.max_pixels,
            "number": settings.max_n,
            "prompt": settings.max_prompt,
            "upload": settings.max_upload,
        },
    }


def _model(models: Models, name: str) -> dict[str, Any]:
    try:
        return {"name": name, **_facts(models.pipeline(Asked(model=name)))}
    except PleinairError:
        log.exception("the model %s cannot be opened", name)
        return {"name": name, "broken": True}


def _facts(pipe: StableDiffusionPipeline) -> dict[str, Any]:
    """What of the form depends on the model."""
    family, bundle = pipe.family, pipe.bundle
    usual = family.recommended
    return {
        "family": family.name,
        "multiple": family.multiple,
        "size": usual.size,
        "usual": {
            "num_inference_steps": usual.steps,
            "guidance_scale": usual.guidance_scale,
            "scheduler": usual.scheduler,
            "eta": usual.eta,
            "vae": usual.vae,
        },
        "samplers": schedulers.names(bundle.scheduler),
        "profile": pipe.profile.name,
        "profiles": [name for name in PROFILES if _paints_with(pipe, name)],
        "loras": family.adaptable,
        "takes_pictures": bundle.has("vae_encoder") or not family.encodes_pictures,
        "wants_picture": family.task != "text",
        "words": pipe.known_words.names if pipe.known_words else None,
    }


def _paints_with(pipe: StableDiffusionPipeline, profile: str) -> bool:
    """Whether the model's folder holds the graphs that a profile takes."""
    try:
        Profile.of(profile).files(pipe.bundle, pipe.engine.format, pipe.family.denoiser)
    except BundleError:
        return False
    return True
