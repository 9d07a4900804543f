"""Pictures from clients, within bounds, and pictures for them, with how they were made."""

import base64
import binascii
import io
import math
import re
from collections.abc import Mapping
from typing import Any, Literal

from PIL import Image

from pleinair.runtime.errors import SettingError, shown
from pleinair.runtime.images import reading
from pleinair.runtime.record import metadata

from . import fetching
from .errors import Refusal, TooLarge
from .settings import Settings

Format = Literal["png", "jpeg", "webp"]

QUALITY = 95
"""Of JPEG and WebP files, where nothing else is asked for."""

_DATA_URL = re.compile(r"data:[\w.+-]*/?[\w.+-]*(?:;[\w.+=-]+)*?;base64,", re.IGNORECASE)
_URL = re.compile(r"https?://", re.IGNORECASE)


def received(source: str | bytes, settings: Settings, param: str = "image") -> Image.Image:
    """A picture that a client sends: a file's bytes, base64, a data URL, or a URL if allowed.

    Mode RGB, or RGBA where it can be transparent; `info` keeps what the file says. One of more
    pixels than the server paints is scaled down to as many.
    Raises Refusal for what is no picture, or too large to be unpacked.
    """
    data = file_of(source, settings, param) if isinstance(source, str) else source
    try:
        picture: Image.Image = reading.read(data, param)
    except SettingError as error:
        raise Refusal(str(error), param=param) from error
    scale = math.sqrt(settings.max_pixels / (picture.width * picture.height))
    if scale >= 1:
        return picture
    width, height = (max(1, int(side * scale)) for side in picture.size)
    smaller: Image.Image = picture.resize((width, height), Image.Resampling.LANCZOS)
    smaller.info = picture.info
    return smaller


def file_of(text: str, settings: Settings, param: str) -> bytes:
    """A file's bytes, of text that stands for one: base64, a data URL, or a URL if allowed."""
    if _URL.match(text):
        if not settings.allow_urls:
            raise Refusal(
                "pictures are not fetched by URL here; send base64, or have the server started "
                "with --allow-urls",
                param=param,
            )
        return fetching.fetched(text, settings, param)
    found = _DATA_URL.match(text)
    letters = text[found.end() :] if found else text
    if len(letters) > settings.max_upload * 2:
        raise TooLarge(f"{param} is larger than the server's limit", param=param)
    try:
        # Line breaks are usual, padding is often left out.
        dense = "".join(letters.split()).rstrip("=")
        data = base64.b64decode(dense + "=" * (-len(dense) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(
            f"{param} is {shown(text, 40)!r}; give a picture as base64, or as a data URL",
            param=param,
        ) from None
    if not data:
        raise Refusal(f"{param} is empty; give a picture as base64", param=param)
    return data


def edited(picture: Image.Image, mask: Image.Image | None) -> Image.Image | None:
    """What is painted anew, in white: what is wholly transparent in the mask, else in the picture.

    A mask without transparent parts says it by its brightness, as other programs' do. None where
    nothing is marked.
    """
    for marked in (mask, picture):
        if marked is not None and marked.mode == "RGBA":
            alpha = marked.getchannel("A")
            if alpha.getextrema()[0] == 0:
                return alpha.point([255] + [0] * 255)
    return mask.convert("L") if mask else None


def encoded(
    image: Image.Image,
    info: Mapping[str, Any],
    format: Format = "png",
    quality: int | None = None,
) -> bytes:
    """A file of a picture that says how it was made, as files that the library saves do.

    info: by the names of a call's arguments. quality: of JPEG and WebP, 0 to 100.
    """
    file = io.BytesIO()
    if format == "png":
        image.save(file, "PNG", pnginfo=metadata.png_info(info))
    else:
        quality = QUALITY if quality is None else quality
        image.save(file, format, quality=quality, exif=metadata.exif(info))
    return file.getvalue()


def text(data: bytes) -> str:
    """Bytes as base64."""
    return base64.b64encode(data).decode("ascii")
