"""What the page is served by: its files, what can be chosen, and what is asked of a picture."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse

from ..errors import TooLarge, Unknown
from ..service import Service
from ..settings import Settings
from . import pictures
from .offer import offered

_FOLDER = Path(__file__).parent / "static"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
_FILES = {file.name: file for file in _FOLDER.iterdir() if file.suffix in _TYPES}
"""By the names that a browser asks for: no path of a request reaches the disk."""
_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""Nothing is fetched from elsewhere, and nobody else frames the page."""


def router(service: Service, settings: Settings) -> APIRouter:
    """The page's own endpoints; it paints by those of `/v1/jobs`."""
    made = APIRouter(include_in_schema=False)

    @made.get("/")
    async def page() -> FileResponse:
        return _file("index.html", **{"Content-Security-Policy": _POLICY})

    @made.get("/page/files/{name}")
    async def file(name: str) -> FileResponse:
        if name not in _FILES:
            raise Unknown("the page has no such file", param="name")
        return _file(name)

    @made.get("/page/offer")
    async def offer() -> dict[str, Any]:
        return await asyncio.to_thread(offered, service.models, settings)

    @made.post("/page/read")
    async def read(request: Request, model: str | None = None) -> dict[str, Any]:
        data = await request.body()
        return await asyncio.to_thread(pictures.settings_of, data, service.models, model)

    @made.post("/page/edges")
    async def edges(
        request: Request,
        width: Annotated[int, Query(ge=1, le=4096)],
        height: Annotated[int, Query(ge=1, le=4096)],
    ) -> Response:
        if width * height > settings.max_pixels:
            raise TooLarge(f"{width}x{height} are more than {settings.max_pixels} pixels")
        data = await request.body()
        found = await asyncio.to_thread(pictures.edges, data, (width, height), settings)
        return Response(found, media_type="image/png")

    return made


def _file(name: str, **headers: str) -> FileResponse:
    """A file of the page; the type is said here, since systems may know another for `.js`."""
    file = _FILES[name]
    always = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    return FileResponse(file, media_type=_TYPES[file.suffix], headers={**always, **headers})
