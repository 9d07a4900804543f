"""ControlNets as sd-webui-controlnet's clients ask for them: a unit each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from pydantic import ValidationError

from pleinair.runtime.errors import shown
from pleinair.runtime.images.canny import canny
from pleinair.runtime.images.fitting import Fit, Size
from pleinair.runtime.images.reading import over

from ...asked import Weighted
from ...pictures import received
from ...settings import Settings
from ..errors import misfit
from .errors import Unprocessable
from .fields import Unit

SCRIPT = "controlnet"
"""What the script is called by which requests ask for them, in small letters."""
MODULES = ("none", "canny")
"""What a picture can be turned into before a ControlNet follows it."""

_THRESHOLDS = 100.0, 200.0
_RESIZES: Mapping[object, str] = {
    0: "stretch",
    1: "crop",
    2: "pad",
    "Just Resize": "stretch",
    "Crop and Resize": "crop",
    "Resize and Fill": "pad",
}
_STRONGER_PROMPT = (1, "My prompt is more important")
_STRONGER_NET = (2, "ControlNet is more important")


@dataclass(frozen=True)
class Control:
    """What ControlNets add to a request: their names, a call's arguments, what is not done."""

    nets: Sequence[Weighted] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    remarks: Sequence[str] = ()


def read(
    scripts: Mapping[str, Any], settings: Settings, *, image: Image.Image | None, size: Size | None
) -> Control:
    """The units among the scripts that are always on.

    image: what a unit without a picture of its own follows. size: of what is painted, where known.
    Raises Refusal for a script that is not here, and for a unit that cannot be used.
    """
    units: list[Unit] = []
    for name, script in scripts.items():
        if name.lower() != SCRIPT:
            raise Unprocessable(
                f"always on script {shown(name)} not found", param="alwayson_scripts"
            )
        listed = script.get("args") if isinstance(script, dict) else script
        units += [_unit(one) for one in (listed if isinstance(listed, list) else [])]
    units = [unit for unit in units if unit.enabled]
    if not units:
        return Control()
    modes = {unit.control_mode for unit in units}
    guess = bool(modes & set(_STRONGER_NET))
    remarks = ["control_mode 1 is done as 0"] if modes & set(_STRONGER_PROMPT) else []
    if guess and len(modes) > 1:
        remarks.append("control_mode 2 holds for all ControlNets")
    return Control(
        [(_model(unit), 1.0) for unit in units],
        {
            "control_image": [_picture(unit, settings, image, size) for unit in units],
            "controlnet_conditioning_scale": [_or(unit.weight, 1.0) for unit in units],
            "control_guidance_start": [_or(unit.guidance_start, 0.0) for unit in units],
            "control_guidance_end": [_or(unit.guidance_end, 1.0) for unit in units],
            "guess_mode": guess,
        },
        remarks,
    )


def edges(picture: Image.Image, low: float | None, high: float | None) -> Image.Image:
    """Canny's edges in a picture; thresholds that are not given, or below 0, are the usual."""
    least, most = (
        usual if given is None or given < 0 else given
        for given, usual in zip((low, high), _THRESHOLDS, strict=True)
    )
    return Image.fromarray(canny(np.asarray(picture), least, most)).convert("RGB")


def module(name: str | None) -> str:
    """One of MODULES; Unprocessable where there is no such one."""
    known = (name or "none").lower()
    if known not in MODULES:
        raise Unprocessable(
            f"there is no preprocessor {shown(known)!r} here; there are: {', '.join(MODULES)}",
            param="module",
        )
    return known


def _unit(given: Any) -> Unit:
    try:
        return Unit.model_validate(given)
    except ValidationError as error:
        _, message = misfit(error.errors())
        raise Unprocessable(f"a ControlNet's {message}", param="alwayson_scripts") from None


def _model(unit: Unit) -> str:
    """The name without the hash that webui puts behind it."""
    return (unit.model or "").partition(" [")[0]


def _picture(
    unit: Unit, settings: Settings, usual: Image.Image | None, size: Size | None
) -> Image.Image:
    """What a unit follows, of the size painted: edges are one dot wide there."""
    given = received(unit.image, settings, "image") if unit.image else usual
    if given is None:
        raise Unprocessable("a ControlNet follows a picture; give its image", param="image")
    picture: Image.Image = over(given, "black")
    if size is not None:
        way = _RESIZES.get(unit.resize_mode, "crop")
        picture = Fit.of(picture.size, size, way).lay(picture)
    if module(unit.module) == "canny":
        picture = edges(picture, unit.threshold_a, unit.threshold_b)
    return picture


def _or(value: float | None, usual: float) -> float:
    return usual if value is None else value
