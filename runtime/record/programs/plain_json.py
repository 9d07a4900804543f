"""Settings as one JSON object: Draw Things', Easy Diffusion's, and those of scripts on diffusers.

Also the JSON and text files that Easy Diffusion saves beside its pictures.
"""

import html
import re
from collections.abc import Mapping
from typing import Any

from ..texts import MAIN, XMP
from .said import Said, json_of, looks_like_json, lora, objects, plain, translated

_NAMES = {
    "prompt": "prompt",
    "positiveprompt": "prompt",
    "positive": "prompt",
    "c": "prompt",
    "negativeprompt": "negative_prompt",
    "negative": "negative_prompt",
    "uc": "negative_prompt",
    "seed": "seed",
    "steps": "num_inference_steps",
    "numinferencesteps": "num_inference_steps",
    "numsteps": "num_inference_steps",
    "guidancescale": "guidance_scale",
    "cfgscale": "guidance_scale",
    "cfg": "guidance_scale",
    "scale": "guidance_scale",
    "width": "width",
    "height": "height",
    "size": "size",
    "sampler": "sampler",
    "samplername": "sampler",
    "samplerindex": "sampler",
    "scheduletype": "spacing",
    "strength": "strength",
    "promptstrength": "strength",
    "denoisingstrength": "strength",
    "eta": "eta",
    "model": "model",
    "modelname": "model",
    "modelid": "model",
    "usestablediffusionmodel": "model",
    "stablediffusionmodel": "model",
    "clipskip": "clip_skip",
}
_SILENT = {
    *("version", "software", "date", "createdat", "timestamp", "id", "tool", "loras", "lora"),
    *("useloramodel", "loraalpha", "v2", "numoutputs", "numimagesperprompt", "outputformat"),
    *("outputquality", "outputlossless", "metadataoutputformat", "sessionid"),
    *("usedrandomseed", "vramusagelevel", "streamprogressupdates", "streamimageprogress"),
    *("showonlyfilteredimage", "savetodiskpath", "imagewidth", "imageheight", "batchsize"),
    "blockuntilcompleted",
}
# What Draw Things says only in its newer form, and changes the picture where it is there.
_DRAW_THINGS = ("controls", "upscaler", "refinerModel", "hiresFix", "faceRestoration")
_TEXT_LINE = re.compile(r"([A-Z][\w ]{1,40}): ?(.*)")
_USER_COMMENT = re.compile(r"<exif:UserComment>.*?<rdf:li[^>]*>(.*?)</rdf:li>", re.DOTALL)


def read(texts: Mapping[str, str]) -> Said | None:
    found: list[Mapping[str, Any]] = [
        *objects(texts, MAIN, "Comment", "comment"),
        _in_xmp(texts.get(XMP, "")),
        _in_chunks(texts),
        _in_lines(texts),
    ]
    return next((said for stated in found if (said := _read(stated))), None)


def _read(given: Mapping[str, Any]) -> Said | None:
    """None where not a single name is one that we know."""
    inner = given.get("parameters") or given.get("settings")
    stated = inner if isinstance(inner, dict) and not _known(given) else given
    if not _known(stated):
        return None
    # diffusers' solver is a scheduler; where there is a sampler, too, its sigmas' spacing.
    sampled = any(_NAMES.get(plain(name)) == "sampler" for name in stated)
    names = {**_NAMES, "scheduler": "spacing" if sampled else "sampler"}
    skips = str(stated.get("clip_skip")) == "True"  # Easy Diffusion says whether
    if skips or "uc" in stated:
        names["clipskip"] = "clip_layer"
    if skips:
        stated = {**stated, "clip_skip": 2}
    said = translated(stated, names, _SILENT)
    newer = stated.get("v2")
    newer = newer if isinstance(newer, dict) else {}
    said.ignored += [name for name in _DRAW_THINGS if newer.get(name)]
    if entries := _loras(stated) or _loras(newer):
        said.settings["loras"] = entries
    return said


def _known(stated: Mapping[str, Any]) -> bool:
    return any(plain(name) in _NAMES for name in stated)


def _loras(stated: Mapping[str, Any]) -> list[dict[str, Any]]:
    listed = stated.get("loras") or stated.get("lora")
    if isinstance(listed, list):
        return [_lora(one) for one in listed]
    if listed := stated.get("use_lora_model"):  # Easy Diffusion's
        alpha = stated.get("lora_alpha", 1)
        names = listed if isinstance(listed, list) else [listed]
        weights = alpha if isinstance(alpha, list) else [alpha] * len(names)
        return [lora(*pair) for pair in zip(names, weights, strict=False)]
    return []


def _lora(entry: object) -> dict[str, Any]:
    if not isinstance(entry, dict):
        return lora(entry, 1)
    names = ("name", "file", "model", "path")
    name = next((entry[key] for key in names if isinstance(entry.get(key), str)), None)
    weights = ("weight", "strength", "scale")
    return lora(name, next((entry[key] for key in weights if key in entry), 1), entry.get("hash"))


def _in_xmp(xmp: str) -> dict[str, Any]:
    """Draw Things' JSON, `c` the prompt and `uc` what to avoid, inside the XML of XMP."""
    found = _USER_COMMENT.search(xmp)
    text = html.unescape(found[1]) if found else ""
    content = json_of(text, "UserComment") if looks_like_json(text) else None
    return content if isinstance(content, dict) else {}


def _in_chunks(texts: Mapping[str, str]) -> Mapping[str, Any]:
    """Easy Diffusion's: each setting a text of its own, by either of its two names."""
    prompt = texts.get("prompt") or texts.get("Prompt") or ""
    told = {plain(name) for name in texts} & {"numinferencesteps", "steps", "guidancescale"}
    return texts if told and not looks_like_json(prompt) else {}


def _in_lines(texts: Mapping[str, str]) -> Mapping[str, Any]:
    """Easy Diffusion's text file: `Prompt: a boat`, `Width: 512` and so on, a line each."""
    lines = texts.get(MAIN, "").strip().split("\n")
    pairs = [found for line in lines[:200] if (found := _TEXT_LINE.fullmatch(line.strip()))]
    stated = {found[1]: found[2] for found in pairs}
    return stated if len(pairs) == len(lines) and {"Prompt", "Seed"} <= stated.keys() else {}
