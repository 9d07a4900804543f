"""What a picture says of how it was made, fitted to the model that is to paint it again."""

import re
from collections.abc import Mapping
from typing import Any

from .. import schedulers
from ..families import FAMILIES
from ..families.family import Family
from ..options.option import declared

_OPEN_CLIP_WIDTH = 1024


def fitted(
    said: Mapping[str, Any], program: str, family: Family
) -> tuple[dict[str, Any], list[str]]:
    """The settings that the model takes, and in a few words each those that it does not have.

    Programs count the text encoder's layers from the last, but not every kind of model is read
    from there: `clip_layer` becomes the model's `clip_skip` where that is not said.
    program: whose words they are, as `Found` says.
    """
    gone = [name for name in said if _is_foreign(name, family)]
    settings = {name: value for name, value in said.items() if name not in gone}
    known, scheduler = schedulers.names(family.bundle.scheduler), settings.get("scheduler")
    if scheduler is not None and scheduler not in known:
        flow = f"flow_{scheduler}"  # one sampler in webui, whatever the training noise
        settings["scheduler"] = flow
        if flow not in known:
            del settings["scheduler"]
            gone.append(f"scheduler {scheduler}")
    layer = settings.pop("clip_layer", None)
    if layer is not None and "clip_skip" not in settings:
        left_out = _skips_layers(program, str(settings.get("version", "")), family)
        if left_out and layer > family.layers_left:
            settings["clip_skip"] = layer - family.layers_left
    return settings, gone


def _skips_layers(program: str, version: str, family: Family) -> bool:
    """webui, unlike Forge, skips no layer of XL's and of Stable Diffusion 2's text encoders."""
    webui = program == "webui" and re.match(r"v?1\.|$", version)
    width = family.bundle.config("text_encoder").get("hidden_size")
    return not (webui and (family.layers_left > 1 or width == _OPEN_CLIP_WIDTH))


def _is_foreign(name: str, family: Family) -> bool:
    """Whether an option is one of other kinds of models alone."""
    others = (other.options for other in FAMILIES if other.options is not family.options)
    return name not in declared(family.options) and any(name in declared(one) for one in others)
