"""The body of an edit or a variation: a form with files, or JSON with data URLs."""

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import Request

from ...errors import Refusal
from ...pictures import received
from ...settings import Settings
from .request import Images, Sent

_IMAGE = re.compile(r"image(\[\d*\])?")
_MOST_FIELDS = 200
_MOST_FILES = 20


@dataclass
class _Parts:
    """A body taken apart: pictures as they were sent, and the other fields."""

    fields: dict[str, Any]
    images: list[str | bytes]
    masks: list[str | bytes]


async def read(request: Request, settings: Settings, *, edits: bool) -> tuple[Images, Sent]:
    """The fields and the pictures. Raises Refusal, or RequestValidationError for a field.

    edits: several pictures, and a mask of one, are taken, and a prompt is needed.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        parts = await _form(request, settings)
    elif kind == "application/json":
        parts = await _json(request)
    else:
        raise Refusal("send multipart/form-data or application/json", param="content-type")
    try:
        fields = Images.model_validate(parts.fields)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False)) from error
    if edits and not fields.prompt:
        raise Refusal("prompt is missing: say what is to be seen", param="prompt")
    masks = parts.masks[:1] if edits else []
    _check_number(len(parts.images), fields.n or 1, settings.max_n, edits=edits, masked=bool(masks))

    def unpacked() -> Sent:
        images = [received(one, settings, "image") for one in parts.images]
        return Sent(images, received(masks[0], settings, "mask") if masks else None)

    return fields, await asyncio.to_thread(unpacked)


def _check_number(images: int, n: int, most: int, *, edits: bool, masked: bool) -> None:
    """Raise Refusal where there are not so many pictures as can be painted from."""
    why = None
    if images == 0:
        why = "image is missing: send the picture that is painted from"
    elif images > 1 and not edits:
        why = f"image has {images} pictures, and a variation is of one: send them one by one"
    elif images > 1 and masked:
        why = f"image has {images} pictures, and a mask is of one: send the one it belongs to"
    elif images > 1 and images * n > most:
        why = (
            f"image has {images} pictures, each of which is painted {n} times: at most {most} are "
            "painted at once, send fewer"
        )
    if why:
        raise Refusal(why, param="image")


async def _form(request: Request, settings: Settings) -> _Parts:
    parts = _Parts({}, [], [])
    form = request.form(
        max_files=_MOST_FILES, max_fields=_MOST_FIELDS, max_part_size=settings.max_upload
    )
    async with form as fields:
        for name, value in fields.multi_items():
            content = await value.read() if isinstance(value, UploadFile) else value
            _sort(parts, name, content)
    return parts


async def _json(request: Request) -> _Parts:
    try:
        content = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise Refusal("the body is not JSON") from None
    if not isinstance(content, dict):
        raise Refusal("the body is no JSON object")
    parts = _Parts({}, [], [])
    for name, value in content.items():
        if name in ("images", "image", "mask"):
            for one in value if isinstance(value, list) else [value]:
                _sort(parts, "mask" if name == "mask" else "image", _named(one, name))
        else:
            parts.fields[name] = value
    return parts


def _named(value: Any, name: str) -> str | None:
    """A picture of JSON: a text, or an object that says its URL."""
    if isinstance(value, dict):
        if value.get("file_id"):
            raise Refusal("files are not kept here: send image_url, a data URL", param=name)
        value = value.get("image_url")
    if isinstance(value, dict):  # as in chats
        value = value.get("url")
    if value is None or isinstance(value, str):
        return value
    raise Refusal(f"{name} is no picture; give a data URL, or base64", param=name)


def _sort(parts: _Parts, name: str, value: str | bytes | None) -> None:
    """Put a field where it belongs; an empty picture is not given."""
    if _IMAGE.fullmatch(name) or name == "mask":
        if value:
            (parts.masks if name == "mask" else parts.images).append(value)
    else:
        parts.fields[name] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
