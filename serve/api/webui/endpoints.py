"""Pictures from text and from pictures, and the options that they are painted with."""

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ...access import client_of
from ...errors import Unknown
from ..waiting import awaited
from . import answers
from .errors import Unstoppable, in_webuis_words
from .fields import ImageToImage, Painting, TextToImage
from .options import Options
from .painting import Painter, Wanted, family_of
from .server import Server


def router(server: Server) -> APIRouter:
    made = APIRouter()

    @made.post("/txt2img")
    async def txt2img(request: Request, fields: TextToImage) -> Response:
        """Pictures from text."""
        return await painted(request, fields, "txt2img", lambda it: it.text_to_image(fields))

    @made.post("/img2img")
    async def img2img(request: Request, fields: ImageToImage) -> Response:
        """Pictures from a picture, all of it or what a mask marks."""
        return await painted(request, fields, "img2img", lambda it: it.image_to_image(fields))

    async def painted(
        request: Request, fields: Painting, name: str, read: Callable[[Painter], Wanted]
    ) -> Response:
        client = client_of(request)
        options = server.options(client, fields.override_settings)

        def understood() -> Wanted:
            return read(server.painter(options))

        with in_webuis_words():
            wanted = await asyncio.to_thread(understood)
            batch = await server.batches.submit(
                name, client, wanted.each, previews=options.previews, task=fields.force_task_id
            )
        if fields.override_settings_restore_afterwards is False:
            server.clients.set(client, options)

        async def response() -> Response:
            try:
                done = await batch.painted()
            finally:
                server.batches.end(batch)
            body = await asyncio.to_thread(answers.painted, done, batch, wanted, options, fields)
            return Response(body, media_type="application/json")

        return await awaited(request, response(), lambda: server.batches.end(batch))

    @made.get("/options")
    async def get_options(request: Request) -> dict[str, Any]:
        """The client's own: see `options.py`."""
        return server.options(client_of(request)).as_webui()

    @made.post("/options")
    async def set_options(request: Request, fields: dict[str, Any]) -> None:
        """Change some, or post all of them back; those that are unknown are passed over."""
        client = client_of(request)
        options = server.options(client, fields)
        await opened(options)
        server.clients.set(client, options)

    async def opened(options: Options) -> None:
        """Raises what is wrong with a model now, and not with the first picture."""
        await asyncio.to_thread(family_of, server.models, options.model)

    @made.post("/unload-checkpoint")
    async def unload_checkpoint() -> dict[str, Any]:
        """Let go of the models' memory, where nothing is painted: others would wait for it."""
        if not server.service.queue.working:
            await asyncio.to_thread(server.models.close)
        return {}

    @made.post("/reload-checkpoint")
    async def reload_checkpoint(request: Request) -> dict[str, Any]:
        await opened(server.options(client_of(request)))
        return {}

    @made.post("/interrogate")
    async def interrogate() -> None:
        raise Unknown("Model not found: nothing here tells what is in a picture", param="model")

    @made.post("/refresh-loras")
    async def refresh_loras() -> None:
        """Look for files that have come, or are gone."""
        await asyncio.to_thread(server.models.refresh)

    for thing in ("checkpoints", "vae", "embeddings"):
        made.add_api_route(f"/refresh-{thing}", _known, methods=["POST"], name=f"refresh-{thing}")
    for action in ("kill", "restart", "stop"):
        made.add_api_route(f"/server-{action}", _refused, methods=["POST"], name=f"server-{action}")
    return made


async def _known() -> None:
    """What is served was said when the server was started."""


async def _refused() -> Response:
    """Whoever runs the server stops it, and no client."""
    raise Unstoppable("whoever runs the server stops it; a client cannot")
