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


def build(submodel: str, config: Config, origin: str) -> torch.nn.Module:
    """Build a sub-model, or "controlnet", on the meta device: shapes, but no memory yet."""
    try:
        with torch.device("meta"), quiet():
            return _text_encoder(config) if submodel == "text_encoder" else _diffusers(config)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise SourceError(f"{origin}: its config describes no working model: {error}") from error


def _text_encoder(config: Config) -> torch.nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig.from_dict(config))


def _diffusers(config: Config) -> torch.nn.Module:
    from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel

    classes = (UNet2DConditionModel, AutoencoderKL, ControlNetModel)
    known = {cls.__name__: cls for cls in classes}
    return known[config["_class_name"]].from_config(config)


def published_config(module: Any, config: Config) -> Config:
    """Return the config.json to write: defaults spelled out, no paths of the machine it was on."""
    kept = {key: value for key, value in config.items() if key != "_name_or_path"}
    if "_class_name" not in kept:  # transformers
        return kept
    spelled_out = {k: v for k, v in module.config.items() if not k.startswith("_")}
    return kept | spelled_out


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
