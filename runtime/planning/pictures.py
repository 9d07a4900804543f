"""The pictures that a call gives, read."""

from dataclasses import replace
from typing import Any

from ..images.original import Original
from ..images.reading import held
from ..options.groups import Picture
from ..request import Request


def with_files_read(request: Request) -> Request:
    """With the bytes of open files in their place: two passes read a ControlNet's picture twice."""
    picture, control = request.picture, request.control
    followed: Any = control.control_image
    several = isinstance(followed, list)
    follows = [held(one, "control_image") for one in (followed if several else [followed])]
    return replace(
        request,
        picture=replace(
            picture,
            image=held(picture.image, "image"),
            mask_image=held(picture.mask_image, "mask_image"),
        ),
        control=replace(control, control_image=follows if several else follows[0]),
    )


def original_of(picture: Picture) -> Original | None:
    """The picture to start from with its mask; None paints from text."""
    return Original.read(
        picture.image,
        picture.mask_image,
        mask_invert=picture.mask_invert,
        mask_blur=picture.mask_blur,
        resize=picture.resize,
        keep_unmasked=picture.keep_unmasked,
    )
