"""webui's text of how a picture was made, as the fields that webui's requests and answers have."""

import re
from collections.abc import Mapping
from typing import Any

from pleinair.runtime.record import fields

_NEGATIVE = "Negative prompt:"
# What the text calls it -> the field of a request.
_FIELDS = {
    "Steps": "steps",
    "Sampler": "sampler_name",
    "Schedule type": "scheduler",
    "CFG scale": "cfg_scale",
    "Image CFG scale": "image_cfg_scale",
    "Seed": "seed",
    "Variation seed": "subseed",
    "Variation seed strength": "subseed_strength",
    "Denoising strength": "denoising_strength",
    "Mask blur": "mask_blur",
    "Clip skip": "clip_skip",
    "Hires upscale": "hr_scale",
    "Hires upscaler": "hr_upscaler",
    "Hires CFG Scale": "hr_cfg",
    "Hires steps": "hr_second_pass_steps",
    "Eta DDIM": "eta",
}


def parameters(text: str) -> dict[str, str]:
    """As webui's png-info names them: `Prompt`, `Negative prompt`, `Steps`, `Size-1` …"""
    lines, values = fields.split(text)
    stripped = [line.strip() for line in lines]
    first = next((i for i, line in enumerate(stripped) if line.startswith(_NEGATIVE)), len(lines))
    negative = [line.removeprefix(_NEGATIVE).strip() for line in stripped[first:]]
    sizes: dict[str, str] = {}
    for name, value in values.items():
        if size := re.fullmatch(r"(\d{1,9})x(\d{1,9})", value):
            sizes |= {f"{name}-1": size[1], f"{name}-2": size[2]}
    others = {name: value for name, value in values.items() if f"{name}-1" not in sizes}
    prompts = {"Prompt": "\n".join(stripped[:first]), "Negative prompt": "\n".join(negative)}
    return {**prompts, **others, **sizes}


def fields_of(text: str) -> dict[str, Any]:
    """A request's fields, their values still text, that paint such a picture."""
    values = parameters(text)
    found: dict[str, Any] = {ours: values[name] for name, ours in _FIELDS.items() if name in values}
    found |= _prompts(values)
    for side, name in (("width", "Size-1"), ("height", "Size-2")):
        if name in values:
            found[side] = values[name]
    if "hr_scale" in found:
        found["enable_hr"] = True
    return found


def _prompts(values: Mapping[str, str]) -> dict[str, str]:
    pairs = {"prompt": values["Prompt"], "negative_prompt": values["Negative prompt"]}
    return {name: value for name, value in pairs.items() if value}
