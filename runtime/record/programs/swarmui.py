"""SwarmUI: JSON under `parameters` or in UserComment, with `sui_image_params` in it."""

from collections.abc import Mapping
from typing import Any

from ..texts import MAIN
from .said import Said, lora, objects, translated

_NAMES = {
    "prompt": "prompt",
    "negativeprompt": "negative_prompt",
    "seed": "seed",
    "steps": "num_inference_steps",
    "cfgscale": "guidance_scale",
    "width": "width",
    "height": "height",
    "model": "model",
    "sampler": "sampler",
    "comfyuisampler": "sampler",
    "autowebuisampler": "sampler",
    "scheduler": "spacing",
    "comfyuischeduler": "spacing",
    "initimagecreativity": "strength",
    "clipstopatlayer": "clip_layer",
}
_SILENT = {
    *("swarmversion", "date", "generationtime", "aspectratio", "sidelength", "automaticvae"),
    *("images", "batchsize", "imageformat", "nopreviews", "donotsave", "originalprompt"),
    *("usedwildcards", "wildcardseed", "loras", "loraweights", "personalnote", "resolution"),
}


def read(texts: Mapping[str, str]) -> Said | None:
    for stated in objects(texts, MAIN, "Model"):
        params = stated.get("sui_image_params")
        if isinstance(params, dict):
            return _read(params)
    return None


def _read(params: dict[str, Any]) -> Said:
    said = translated(params, _NAMES, _SILENT)
    layer = said.settings.get("clip_layer")
    if layer is not None:
        said.settings["clip_layer"] = str(layer).removeprefix("-")  # -1 is the last
    names, weights = _listed(params.get("loras")), _listed(params.get("loraweights"))
    weights += ["1"] * (len(names) - len(weights))
    if names:
        said.settings["loras"] = [lora(*pair) for pair in zip(names, weights, strict=False)]
    return said


def _listed(value: object) -> list[Any]:
    """A list, or "one,two"."""
    if isinstance(value, list):
        return value
    return value.split(",") if isinstance(value, str) and value else []
