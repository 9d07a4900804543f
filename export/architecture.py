"""Modules from configs: the three networks of Stable Diffusion, built without their weights."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from pleinair.runtime.errors import SourceError

Config = dict[str, Any]

CLASSES = {
    "text_encoder": "CLIPTextModel",
    "unet": "UNet2DConditionModel",
    "vae": "AutoencoderKL",
}
# What a checkpoint may have, or be given, beside them.
OPTIONAL = {
    "safety_checker": "StableDiffusionSafetyChecker",
    "tiny_vae": "AutoencoderTiny",
}


def build(submodel: str, config: Config, origin: str) -> torch.nn.Module:
    """Build one of the sub-models on the meta device: shapes, but no memory yet."""
    try:
        with torch.device("meta"), quiet():
            if submodel == "safety_checker":
                return _safety_checker(config)
            return _text_encoder(config) if submodel == "text_encoder" else _diffusers(config)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise SourceError(f"{origin}: its config describes no working model: {error}") from error


def _text_encoder(config: Config) -> torch.nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig.from_dict(config))


def _safety_checker(config: Config) -> torch.nn.Module:
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    return StableDiffusionSafetyChecker(CLIPConfig.from_dict(config))


def _diffusers(config: Config) -> torch.nn.Module:
    from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel

    known = {cls.__name__: cls for cls in (UNet2DConditionModel, AutoencoderKL, AutoencoderTiny)}
    return known[config["_class_name"]].from_config(config)


def published_config(module: Any, config: Config) -> Config:
    """Return the config.json to write: defaults spelled out, no paths of the machine it was on.

    A safety checker's thresholds, which are weights, are in it: a runtime decides by them.
    """
    kept = _without_paths(config)
    if hasattr(module, "concept_embeds_weights"):
        for name in ("concept_embeds_weights", "special_care_embeds_weights"):
            kept[name] = getattr(module, name).tolist()
    if "_class_name" not in kept:  # transformers
        return kept
    spelled_out = {k: v for k, v in module.config.items() if not k.startswith("_")}
    return kept | spelled_out


def _without_paths(config: Config) -> Config:
    """CLIP's config holds those of its halves, each with the path it came from."""
    return {
        key: _without_paths(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if key != "_name_or_path"
    }


def count_parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the libraries' remarks on configs: what matters is checked by key and shape."""
    import diffusers.utils.logging as diffusers_log
    import transformers.utils.logging as transformers_log

    levels = [(log, log.get_verbosity()) for log in (diffusers_log, transformers_log)]
    for log, _ in levels:
        log.set_verbosity_error()
    try:
        yield
    finally:
        for log, level in levels:
            log.set_verbosity(level)
