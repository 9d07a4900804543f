"""NovelAI: the prompt as `Description`, the settings as JSON in `Comment`."""

import re
from collections.abc import Mapping

from .said import Said, objects, translated

_NAMES = {
    "prompt": "prompt",
    "uc": "negative_prompt",
    "steps": "num_inference_steps",
    "scale": "guidance_scale",
    "cfgrescale": "guidance_rescale",
    "seed": "seed",
    "width": "width",
    "height": "height",
    "sampler": "sampler",
    "noiseschedule": "spacing",
    "strength": "strength",
}
_SILENT = {
    *("signedhash", "requesttype", "version", "nsamples", "noise"),
    *("v4prompt", "v4negativeprompt"),
}


def read(texts: Mapping[str, str]) -> Said | None:
    if texts.get("Software") != "NovelAI":
        return None
    stated = next(objects(texts, "Comment"), {})
    if "Img2Img" not in str(stated.get("request_type")):
        stated.pop("strength", None)  # stands there without a picture, too
    said = translated({"prompt": texts.get("Description"), **stated}, _NAMES, _SILENT)
    model = re.fullmatch(r"(.{1,200}?)(?: [0-9A-F]{8})?", texts.get("Source", ""))
    if model:
        said.settings["model"] = model[1]
    if any(_has_characters(stated.get(name)) for name in ("v4_prompt", "v4_negative_prompt")):
        said.ignored.append("prompts of characters")
    if re.search(r"[{}\[\]]|::", str(said.settings.get("prompt", ""))):
        said.ignored.append("the prompt's weights (NovelAI's)")
    if "seed" in said.settings:
        said.ignored.append("noise (NovelAI's own; the picture will be another)")
    return said


def _has_characters(prompt: object) -> bool:
    """Whether version 4 was told of persons in the picture, each by a prompt."""
    caption = prompt.get("caption") if isinstance(prompt, dict) else None
    return isinstance(caption, dict) and bool(caption.get("char_captions"))
