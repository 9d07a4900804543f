"""The size of what is painted: as asked for, a picture's, or the model's own."""

import logging

from ..denoise.control import Controls
from ..errors import Argument, Message, SettingError
from ..families.family import Family
from ..images import sizing
from ..images.fitting import Size as Pixels
from ..images.original import Original
from ..images.reading import MOST_PIXELS
from ..options.groups import Size
from .draft import Draft

_log = logging.getLogger("pleinair")


def painted_size(draft: Draft) -> Pixels:
    """Width and height as asked for, else the picture's, else what the model knows best."""
    family, size = draft.family, draft.request.size
    width, height = size.width, size.height
    if width is None or height is None:
        trained = family.recommended.size
        source, usual = draft.original or draft.controls, (trained, trained)
        if source is not None:
            usual = _picture_size(family, source, size)
        width = usual[0] if width is None else width
        height = usual[1] if height is None else height
    width, height = checked_size(width, height, family.multiple)
    if size.tile is None:
        _remark(family, (width, height))
    return width, height


def checked_size(width: int, height: int, multiple: int) -> Pixels:
    """A size to paint; SettingError where its sides are no multiples, or nobody has the memory."""
    size = checked_side("width", width, multiple), checked_side("height", height, multiple)
    if width * height > MOST_PIXELS:
        raise SettingError(
            Message(
                "{width} and {height} are {0} and {1}; give at most {2} million pixels",
                width,
                height,
                MOST_PIXELS // 1_000_000,
            )
        )
    return size


def checked_side(name: str, pixels: int, multiple: int) -> int:
    """The pixels of one side; SettingError names the argument where they are no multiple."""
    if pixels < multiple or pixels % multiple:
        near = max(multiple, round(pixels / multiple) * multiple)
        raise SettingError(
            Message(
                "{0} is {1}; give a multiple of {2}, such as {3}",
                Argument(name),
                pixels,
                multiple,
                near,
            )
        )
    return pixels


def _picture_size(family: Family, source: Original | Controls, size: Size) -> Pixels:
    """A picture's size; one far larger than the model's own is scaled down to that."""
    trained = family.recommended.size
    across, down = source.size(family.multiple // family.upscales)
    own = across * family.upscales, down * family.upscales
    if size.tile is not None or not sizing.is_large(own, trained):
        return own
    if family.upscales > 1:  # what is to be made larger is not made smaller first
        _log.warning(
            Message(
                "{0[0]}x{0[1]} pixels are to be painted and {1} was trained on {2}x{2}; give "
                "{tile} to paint them in parts",
                own,
                family.bundle.name,
                trained,
            )
        )
        return own
    shape, one_given = source.picture.size, size.width is not None or size.height is not None
    painted = (
        sizing.completed(shape, size.width, size.height, family.multiple)
        if one_given
        else sizing.scaled_to(shape, trained, family.multiple)
    )
    _log.warning(
        Message(
            "the picture of {0[0]}x{0[1]} is painted at {1[0]}x{1[1]}, near the {2}x{2} that "
            "{3} was trained on; for another size give {width} and {height}, or {tile} to "
            "paint all of it in parts",
            shape,
            painted,
            trained,
            family.bundle.name,
        )
    )
    return painted


def _remark(family: Family, size: Pixels) -> None:
    """One line about a size that the model was not trained for."""
    trained = family.recommended.size
    if family.upscales == 1 and (words := sizing.remark(size, trained)):
        _log.warning(
            Message(
                "{0[0]}x{0[1]} is far from the {1}x{1} that {2} was trained on: " + words,
                size,
                trained,
                family.bundle.name,
            )
        )
