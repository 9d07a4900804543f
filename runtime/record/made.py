"""How a pipeline makes the images of a plan, by the names of a call's arguments."""

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from ..adapters.inversion import Embedding
from ..adapters.lora import Lora
from ..engines.protocol import Engine
from ..families.family import Family
from ..options.groups import Reuse
from ..options.option import declared
from ..plan import Plan
from ..schedulers.catalog import NAMED, SOLVERS
from ..speed.profiles import Profile
from . import metadata
from .adapters import embedding_record, lora_record


class Painter(Protocol):
    """What is asked of a pipeline."""

    family: Family
    engine: Engine
    profile: Profile
    loras: tuple[Lora, ...]
    embeddings: tuple[Embedding, ...]


def description(
    pipe: Painter, plan: Plan, number: int = 0, lora_folder: Path | None = None
) -> dict[str, Any]:
    """The settings of one of a plan's images, the model's defaults by their values."""
    settings, bundle, job = plan.settings, pipe.family.bundle, plan.jobs[number]
    size = {"width": settings.width, "height": settings.height}
    # What is kept of a picture brings its size back, which may be none to paint at.
    kept = plan.original is not None and plan.original.keep_unmasked
    recommended = pipe.family.recommended
    asked = _asked(plan)
    varied = {"variation_seed": job.variation.seed} if job.variation else {}
    everything = {
        **({} if kept or plan.enlargement else size),
        "num_inference_steps": recommended.steps,
        "guidance_scale": recommended.guidance_scale,
        "scheduler": recommended.scheduler or _named(bundle.scheduler),
        "eta": settings.eta or None,
        "timesteps": _listed(settings.timesteps),
        "vae": "tiny" if plan.decoder == "vae_decoder_tiny" else None,
        "profile": pipe.profile.name,
        **asked,
        **_enlarged(plan),
        "prompt": job.prompt,
        "negative_prompt": job.negative,
        "seed": job.seed,
        **varied,
        "loras": [lora_record(file, lora_folder) for file in pipe.loras] or None,
        "embeddings": [embedding_record(file, lora_folder) for file in pipe.embeddings] or None,
        "engine": pipe.engine.name,
        "device": pipe.engine.device,
        "precision": pipe.engine.precision,
        "model": bundle.name,
        "model_digest": bundle.digest or None,
        "solver": bundle.scheduler.get("_class_name"),
        "version": f"Pleinair {_version()}",
        # Where a model's last layer is never read, webui counts otherwise than clip_skip does.
        "clip_layer": _layer(asked.get("clip_skip"), pipe.family.layers_left),
    }
    return {name: value for name, value in everything.items() if value is not None}


def label(images: Sequence[Any], pipe: Painter, plan: Plan) -> None:
    """Let PIL pictures say in their `info` how they were made, as webui's do."""
    for number, image in enumerate(images):
        if isinstance(image, Image.Image):
            image.info.update(metadata.described(description(pipe, plan, number)))


def _asked(plan: Plan) -> dict[str, Any]:
    """The options of the call that a picture's file says, defaults aside."""
    exact = vars(Profile.of("exact").reuse)
    said = {}
    for group in vars(plan.request).values():
        usual = exact if isinstance(group, Reuse) else {}
        for name, one in declared(group.__class__).items():
            value = getattr(group, name) if one.recorded else None
            if value is not None and value != usual.get(name, one.default):
                said[name] = value
    # Of a pass that only enlarges, these are what the planner made of it.
    made = {"timesteps"}  # written as a text, however they are given
    if plan.enlargement:
        made |= {"width", "height", "tile", "strength", "guidance_scale"}
    return {name: value for name, value in said.items() if name not in made}


def _listed(timesteps: Sequence[int] | None) -> str | None:
    return ",".join(map(str, timesteps)) if timesteps else None


def _enlarged(plan: Plan) -> dict[str, Any]:
    second = plan if plan.enlargement else plan.then
    if second is None or second.enlargement is None:
        return {}
    said = {
        "enlarge": float(second.enlargement.scale),
        "enlarge_strength": second.request.picture.strength,
        "enlarge_guidance_scale": second.settings.guidance_scale,
    }
    steps = second.request.sampling.num_inference_steps
    if second is not plan and steps != plan.request.sampling.num_inference_steps:
        said["enlarge_steps"] = steps
    return said


def _layer(skipped: int | None, left: int) -> int | None:
    return skipped + left if skipped and left > 1 else None


def _named(config: Mapping[str, Any]) -> str | None:
    """The short name of a model's own scheduler, where one stands for just its options."""
    for name, (solver, options) in NAMED.items():
        same = SOLVERS.get(str(config.get("_class_name"))) is solver
        if same and all(config.get(key, False) == value for key, value in options.items()):
            return name
    return None


def _version() -> str:
    try:
        return version("pleinair")
    except PackageNotFoundError:  # run from a checkout that is on the path but not installed
        return "(not installed)"
