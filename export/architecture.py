"""Modules from configs: the networks of Stable Diffusion, built without their weights."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from pleinair.runtime.errors import SourceError

Config = dict[str, Any]

CLASSES = {
    "text_encoder": "CLIPTextModel",
    "unet": "UNet2DConditionModel",
    "vae": "AutoencoderKL",
}
# Stable Diffusion XL has a second text encoder, whose pooled output its UNet sees as well.
XL_CLASSES = {
    "text_encoder": "CLIPTextModel",
    "text_encoder_2": "CLIPTextModelWithProjection",
    "unet": "UNet2DConditionModel",
    "vae": "AutoencoderKL",
}
# What a checkpoint may have, or be given, beside them.
OPTIONAL = {
    "safety_checker": "StableDiffusionSafetyChecker",
    "tiny_vae": "AutoencoderTiny",
}

_TEXT_ENCODERS = {name: kind for name, kind in XL_CLASSES.items() if kind.startswith("CLIPText")}


def classes(index: Mapping[str, Any]) -> dict[str, str]:
    """Sub-model -> class, for the kind of pipeline that a model_index.json names."""
    if not str(index.get("_class_name")).startswith("StableDiffusionXL"):
        return CLASSES
    refiner = index.get("text_encoder") in (None, [None, None])
    return {k: v for k, v in XL_CLASSES.items() if not (refiner and k == "text_encoder")}


def build(submodel: str, config: Config, origin: str) -> torch.nn.Module:
    """Build a sub-model, or "controlnet", on the meta device: shapes, but no memory yet."""
    try:
        with torch.device("meta"), quiet():
            if submodel in _TEXT_ENCODERS:
                return _text_encoder(submodel, config)
            if submodel == "safety_checker":
                return _safety_checker(config)
            return _diffusers(config)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise SourceError(f"{origin}: its config describes no working model: {error}") from error


def _text_encoder(submodel: str, config: Config) -> torch.nn.Module:
    import transformers

    build = getattr(transformers, _TEXT_ENCODERS[submodel])
    return build(transformers.CLIPTextConfig.from_dict(config))


def _safety_checker(config: Config) -> torch.nn.Module:
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    return StableDiffusionSafetyChecker(CLIPConfig.from_dict(config))


def _diffusers(config: Config) -> torch.nn.Module:
    from diffusers import AutoencoderKL, AutoencoderTiny, ControlNetModel, UNet2DConditionModel

    classes = (UNet2DConditionModel, AutoencoderKL, AutoencoderTiny, ControlNetModel)
    known = {cls.__name__: cls for cls in classes}
    return known[config["_class_name"]].from_config(config)


def check_upscaler(index: Config, configs: dict[str, Config], origin: str) -> None:
    """Refuse an upscaler that the runtime could not feed; nothing to say on other pipelines.

    Its UNet sees the small picture's three colours beside the latents, and is told by its
    `class_labels` how much noise is on them. Raises `SourceError`.
    """
    if "low_res_scheduler" not in index:
        return
    unet, latents = configs["unet"], configs["vae"].get("latent_channels", 4)
    if unet.get("num_class_embeds") is None or unet.get("class_embed_type") is not None:
        raise SourceError(
            f"{origin}/unet: an upscaler's takes noise levels by number (num_class_embeds), "
            "this one does not; only x4 upscalers of Stable Diffusion 2's kind can be exported"
        )
    if unet.get("in_channels") != latents + 3:
        raise SourceError(
            f"{origin}/unet: takes {unet.get('in_channels')} channels; an upscaler's takes "
            f"{latents + 3}, the VAE's {latents} and the picture's 3"
        )


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
