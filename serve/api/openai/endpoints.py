"""OpenAI's endpoints."""

import functools
import time
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ...access import client_of
from ...errors import Unknown
from ...service import Service
from ...settings import Settings
from ..files import Files, address
from ..waiting import Stream, answered
from . import body
from .answer import body_of, events
from .request import Generation, Images, Prepared, Sent, prepared

_PICTURE = {"type": "string", "format": "binary"}


def router(service: Service, settings: Settings, files: Files) -> APIRouter:
    """files: where pictures are that are answered by their URL."""
    made = APIRouter(prefix="/v1", tags=["OpenAI"])
    begun = int(time.time())

    async def painted(request: Request, fields: Images, asked: Prepared, kind: str) -> Response:
        streamed = bool(fields.stream)
        previews = asked.previews(fields.partial_images or 0) if streamed else 0
        job = await service.submit(asked.asked, client_of(request), previews=previews)
        if streamed:
            return Stream(
                events(job, fields, kind),
                "text/event-stream",
                closed=functools.partial(service.cancel, job),
            )
        url = functools.partial(address, request)
        answer = functools.partial(body_of, job=job, fields=fields, files=files, url=url)
        return await answered(request, service, job, answer)

    @made.post("/images/generations")
    async def generations(request: Request, fields: Generation) -> Response:
        """Pictures from text."""
        asked = await prepared(service, fields, Sent())
        return await painted(request, fields, asked, "image_generation")

    @made.post("/images/edits", openapi_extra=_documented(edits=True))
    async def edits(request: Request) -> Response:
        """A picture changed, or painted in where a mask is transparent; of several each one."""
        fields, sent = await body.read(request, settings, edits=True)
        return await painted(request, fields, await prepared(service, fields, sent), "image_edit")

    @made.post("/images/variations", openapi_extra=_documented(edits=False))
    async def variations(request: Request) -> Response:
        """A picture painted again, a little different."""
        fields, sent = await body.read(request, settings, edits=False)
        asked = await prepared(service, fields, sent, vary=True)
        return await painted(request, fields, asked, "image_edit")

    def described(name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": begun, "owned_by": "pleinair"}

    @made.get("/models")
    async def models() -> dict[str, Any]:
        """The models; and LoRA files and ControlNets, by the names that requests call them."""
        known = service.models
        return {
            "object": "list",
            "data": [described(name) for name in known.folders],
            "loras": list(known.loras),
            "controlnets": list(known.controlnets),
        }

    @made.get("/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        """One model."""
        if name not in service.models.folders:
            raise Unknown("there is no such model here", param="model")
        return described(name)

    return made


def _documented(*, edits: bool) -> dict[str, Any]:
    """The body of an endpoint that reads it by itself, for the schema."""
    fields = Images.model_json_schema()["properties"]
    image = {"anyOf": [_PICTURE, {"type": "array", "items": _PICTURE}]} if edits else _PICTURE
    form = {**fields, "image": image, **({"mask": _PICTURE} if edits else {})}
    link = {"type": "object", "properties": {"image_url": {"type": "string"}}}
    json_fields = {
        **fields,
        "images": {"type": "array", "items": link},
        **({"mask": link} if edits else {}),
    }
    needed = ["prompt"] if edits else []
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {"type": "object", "properties": form, "required": ["image", *needed]}
                },
                "application/json": {
                    "schema": {
                        "type": "object",
                        "properties": json_fields,
                        "required": ["images", *needed],
                    }
                },
            },
        }
    }
