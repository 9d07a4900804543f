"""`--enlarge`: a picture just painted, or one that is there, made larger in a second pass."""

import argparse
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image

from ..errors import SettingError
from ..images.enlarging import enlarged
from ..images.fitting import Fit, Size
from ..images.reading import over, read
from ..pipeline import PipelineOutput, StableDiffusionPipeline
from .arguments import picture_input
from .picture import Picture

Tell = Callable[[str, int, int], object]

# Of the settings these are the second pass's alone; the others hold for both.
_OWN = {"enlarge": "scale", "enlarge_strength": "strength"}
_OWN |= {"enlarge_guidance_scale": "guidance_scale"}
DEFAULTS = {"enlarge_strength": 0.3, "enlarge_guidance_scale": 1.0}
# A call paints at a size, from a picture and from a noise that the second pass has its own of.
_FIRST = {"width", "height", "resize", "strength", "mask_blur", "image_guidance_scale"}
_FIRST |= {"guidance_scale"}
# The first pass's picture, while the second is checked and there is none yet.
_STAND_IN = Image.new("RGB", (8, 8))


class Checked(Exception):  # noqa: N818 (nothing is wrong)
    """A call has got past its checks."""


def painted(
    pipe: StableDiffusionPipeline,
    asked: Picture,
    options: argparse.Namespace,
    callback_on_stage: Tell,
    callback_on_step_end: Any = None,
) -> PipelineOutput:
    """One picture: a call, and where the settings have `enlarge`, the pass that makes it larger.

    What is returned is of the last pass; a picture that is withheld is not enlarged.
    Raises SettingError for either pass before the first begins.
    """
    settings, start = asked.settings, picture_input(options)
    told = {"safety": options.safety, "callback_on_step_end": callback_on_step_end}
    first = {**start, **told, "noise_seed": asked.noise_seed}
    tell = callback_on_stage
    call = {name: value for name, value in settings.items() if name not in _OWN}
    scale = settings.get("enlarge")
    if scale is None:
        for name in _OWN.keys() & settings.keys():
            raise SettingError(f"{name} is about --enlarge; give that too")
        return pipe(**call, **first, callback_on_stage=tell)
    second = {name: value for name, value in call.items() if name not in _FIRST}
    own = {**DEFAULTS, **settings}
    second |= {argument: own[name] for name, argument in _OWN.items()}

    def begins(stage: str, done: int, total: int) -> None:
        raise Checked

    def tells(stage: str, done: int, total: int) -> None:
        tell("enlarge" if stage == "denoise" else stage, done, total)

    if is_enough(settings, start):
        picture = _brought_to_size(settings, start["image"])
        return pipe.enlarge(picture, **second, **told, callback_on_stage=tells)
    if "tile" not in call:
        call.pop("tile_overlap", None)  # of the second pass's tiles, which are there unasked
    enlarged(first_size(settings, start, pipe.defaults.size), scale)
    with contextlib.suppress(Checked):
        pipe.enlarge(_STAND_IN, **second, callback_on_stage=begins)
    small = pipe(**call, **first, callback_on_stage=tell)
    [picture] = small.images
    if picture is None:
        return small
    return pipe.enlarge(picture, **second, **told, callback_on_stage=tells)


def is_enough(settings: Mapping[str, Any], start: Mapping[str, Any]) -> bool:
    """Whether the picture to start from is itself what is enlarged: nothing says to change it."""
    changes = "strength" in settings or "mask_image" in start
    return "enlarge" in settings and "image" in start and not changes


def first_size(settings: Mapping[str, Any], start: Mapping[str, Any], trained: int) -> Size:
    """The size before it is enlarged: what is asked for, the picture's own, or the model's."""
    own = (trained, trained)
    if "image" in start and not {"width", "height"} <= settings.keys():
        own = read(start["image"]).size
    return settings.get("width", own[0]), settings.get("height", own[1])


def _brought_to_size(settings: Mapping[str, Any], image: Any) -> Image.Image:
    """The picture at the width and height that are asked for, if any are."""
    picture = over(read(image), "white")
    size = settings.get("width", picture.width), settings.get("height", picture.height)
    if min(size) < 1:
        raise SettingError(f"width and height are {size[0]} and {size[1]}; give 1 or more")
    enlarged(size, settings["enlarge"])  # before so much memory is asked for
    return Fit.of(picture.size, size, settings.get("resize", "stretch")).lay(picture)
