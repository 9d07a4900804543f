"""Fooocus: JSON under `parameters` with `fooocus_scheme`; its other scheme is webui's text."""

import re
from collections.abc import Mapping
from typing import Any

from ..texts import MAIN
from .said import Said, lora, objects, translated

_NAMES = {
    "prompt": "prompt",
    "negativeprompt": "negative_prompt",
    "steps": "num_inference_steps",
    "guidancescale": "guidance_scale",
    "cfg": "guidance_scale",
    "seed": "seed",
    "resolution": "size",
    "width": "width",
    "height": "height",
    "sampler": "sampler",
    "samplername": "sampler",
    "scheduler": "spacing",
    "basemodel": "model",
    "basemodelname": "model",
    "clipskip": "clip_layer",
}
_SILENT = {
    *("version", "metadatascheme", "performance", "createdby", "software", "loras"),
    # The prompts painted with hold what the styles and the expansion say.
    *("fullprompt", "fullnegativeprompt", "styles", "promptexpansion"),
}
_LORA = re.compile(r"lora_combined_\d+|LoRA \d+")
_OWN = {"metadata_scheme", "base_model", "base_model_name", "lora_combined_1", "full_prompt"}


def read(texts: Mapping[str, str]) -> Said | None:
    for stated in objects(texts, MAIN, "Comment", "comment"):
        if _OWN & stated.keys() or "fooocus_scheme" in texts:
            return _read(stated)
    return None


def _read(stated: dict[str, Any]) -> Said:
    rest = {name: value for name, value in stated.items() if not _LORA.fullmatch(name)}
    said = translated(rest, _NAMES, _SILENT)
    for name, setting in (("full_prompt", "prompt"), ("full_negative_prompt", "negative_prompt")):
        if isinstance(stated.get(name), list) and stated[name]:
            said.settings[setting] = ", ".join(map(str, stated[name]))
    if entries := [*_loras(stated.get("loras")), *_combined(stated)]:
        said.settings["loras"] = list({entry["name"]: entry for entry in entries}.values())
    return said


def _loras(listed: object) -> list[dict[str, Any]]:
    """[[name, weight, hash], …]"""
    entries = listed if isinstance(listed, list) else []
    return [lora(*one[:3]) for one in entries if isinstance(one, list) and len(one) >= 2]


def _combined(stated: Mapping[str, Any]) -> list[dict[str, Any]]:
    """`lora_combined_1`: "name : 0.5", or with "True : " before it where it is switched on."""
    entries = []
    for name, value in stated.items():
        words = str(value).split(" : ") if _LORA.fullmatch(name) else []
        if len(words) == 3 and words[0] != "True":
            continue
        if len(words) >= 2 and words[-2] != "None":
            entries.append(lora(words[-2], words[-1]))
    return entries
