"""Pictures that a client has: made larger, and read."""

import asyncio
from collections.abc import Sequence
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from PIL import Image
from starlette.responses import JSONResponse, Response

from pleinair.runtime.images.reading import over
from pleinair.runtime.record.texts import MAIN, texts_of

from ... import pictures
from ...access import client_of
from ..waiting import awaited
from . import infotext, remarks
from .errors import Unpainted, Unprocessable, in_webuis_words
from .fields import Extras, ManyPictures, OnePicture, PictureToRead
from .options import Options
from .server import Server
from .upscaling import Larger


def router(server: Server) -> APIRouter:
    made = APIRouter()

    @made.post("/extra-single-image")
    async def extra_single_image(request: Request, fields: OnePicture) -> Response:
        """A picture made larger, by a filter or by the model."""

        async def response() -> Response:
            (image,) = await _enlarged(server, client_of(request), fields, [fields.image])
            shown = image if fields.show_extras_results else None
            return JSONResponse({"html_info": _html(fields), "image": shown})

        return await awaited(request, response(), lambda: None)

    @made.post("/extra-batch-images")
    async def extra_batch_images(request: Request, fields: ManyPictures) -> Response:
        """Several, one after the other."""
        if len(fields.pictures) > server.settings.max_n:
            raise Unprocessable(
                f"imageList has {len(fields.pictures)} pictures; give at most "
                f"{server.settings.max_n}",
                param="imageList",
            )

        async def response() -> Response:
            texts = [one.data for one in fields.pictures]
            images = await _enlarged(server, client_of(request), fields, texts)
            shown = images if fields.show_extras_results else []
            return JSONResponse({"html_info": _html(fields), "images": shown})

        return await awaited(request, response(), lambda: None)

    @made.post("/png-info")
    async def png_info(fields: PictureToRead) -> dict[str, Any]:
        """How a picture was made, in webui's text, with the other texts in its file."""
        data = await asyncio.to_thread(pictures.file_of, fields.image, server.settings, "image")
        texts = await asyncio.to_thread(texts_of, data)
        text = texts.pop(MAIN, "")
        parameters = infotext.parameters(text) if text else {}
        return {"info": text, "items": texts, "parameters": parameters}

    return made


async def _enlarged(server: Server, client: str, fields: Extras, texts: Sequence[str]) -> list[str]:
    """Pictures as base64, each made larger."""
    options = server.options(client)
    return [await _one_enlarged(server, client, options, fields, text) for text in texts]


async def _one_enlarged(
    server: Server, client: str, options: Options, fields: Extras, text: str
) -> str:
    picture, larger = await asyncio.to_thread(_read, server, fields, text)
    asked = await asyncio.to_thread(larger.asked, picture, server.models)
    painted: list[Image.Image] = []
    if asked:
        with in_webuis_words():
            batch = await server.batches.submit("extras", client, asked, previews=options.previews)
        try:
            found = [done.image for done in (await batch.painted()).values()]
        finally:
            server.batches.end(batch)
        painted = [image for image in found if image is not None]
        if len(painted) < len(asked):
            raise Unpainted(503, "the picture was given up: it was interrupted")

    def finished() -> str:
        image = larger.finished(picture, painted)
        file = pictures.encoded(image, {}, options.format, options.jpeg_quality)
        return pictures.text(file)

    return await asyncio.to_thread(finished)


def _read(server: Server, fields: Extras, text: str) -> tuple[Image.Image, Larger]:
    picture = over(pictures.received(text, server.settings), "white")
    return picture, Larger.of(fields, picture.size, server.models, server.settings)


def _html(fields: Extras) -> str:
    """What was not done, as webui tells of extras."""
    lines = remarks.unused(fields.others, second_pass=False)
    return "".join(f"<p>{escape(line)}</p>" for line in lines)
