"""An MCP server with one tool, `paint`, for programs in which a language model asks."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator
from typing import Any

from mcp import types
from mcp.server import Server
from mcp.server.context import ServerRequestContext
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from pydantic import ValidationError
from starlette.types import ASGIApp

from pleinair.runtime import __version__
from pleinair.runtime.errors import PleinairError

from ..access import client_of
from ..job import Job, Picture, Status
from ..pictures import Format, encoded, text
from ..service import Service
from ..settings import Settings
from .errors import misfit
from .fields import asked, job_model
from .waiting import failure, following

_FIELDS = (
    *("prompt", "negative_prompt", "width", "height", "num_inference_steps", "guidance_scale"),
    *("scheduler", "seed", "model"),
)
"""What a language model may say: of more it would read more than it writes."""
_ROOM = 700_000
"""Bytes of a picture's file: clients take messages of a megabyte, in which it is a third longer."""
_WAYS: tuple[tuple[Format, int | None], ...] = (("png", None), ("jpeg", 95), ("jpeg", 80))
"""Formats of a picture, and their quality: the first that has room, else the last."""


class PaintTool:
    """The server, for clients of a service."""

    def __init__(self, service: Service, settings: Settings) -> None:
        self.service, self.settings = service, settings
        self._asked_for = job_model(service.models, settings, _FIELDS)

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[ASGIApp]:
        """What answers the protocol's messages, inside the block.

        Each request stands for itself: whoever closes it ends its picture.
        """
        server = Server(
            "pleinair",
            version=__version__,
            title="Pleinair",
            on_list_tools=self._tools,
            on_call_tool=self._called,
        )
        most = self.settings.max_upload
        manager = StreamableHTTPSessionManager(server, stateless=True, max_request_body_size=most)
        async with manager.run():
            yield manager.handle_request

    async def _tools(
        self, context: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        tool = types.Tool(
            name="paint",
            title="Paint a picture",
            description="Paint a picture from a text that says what is to be seen. Returns the "
            "picture, and the seed that paints it again.",
            input_schema={**self._asked_for.model_json_schema(), "required": ["prompt"]},
        )
        return types.ListToolsResult(tools=[tool])

    async def _called(
        self, context: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        if params.name != "paint":
            return _failed(f"there is no tool {params.name[:80]!r}; there is: paint")
        try:
            fields = self._asked_for.model_validate(params.arguments or {})
            if not getattr(fields, "prompt", None):
                return _failed("prompt is missing: say what is to be seen")
            client = client_of(context.request) if context.request else "mcp"
            job = await self.service.submit(asked(fields, self.settings), client)
        except ValidationError as error:
            return _failed(misfit(error.errors())[1])
        except PleinairError as error:
            return _failed(str(error))
        try:
            status = await self._followed(job, context)
        finally:
            self.service.cancel(job)  # where nobody waits for it any more
        if status.state != "done":
            return _failed(failure(status)[1])
        return await asyncio.to_thread(_painted, status.pictures[0])

    async def _followed(self, job: Job, context: ServerRequestContext[Any]) -> Status:
        """The status once it is over; progress is told meanwhile, where the client asks for it."""
        status = job.status
        async with following(job) as changes:
            async for status in changes:
                tell = functools.partial(context.session.report_progress, status.progress, 1.0)
                if status.state == "waiting":
                    ahead = self.service.place(job).ahead
                    await tell(f"{ahead} pictures are painted before")
                elif not status.over:
                    await tell(status.stage or None)
        return status


def _painted(picture: Picture) -> types.CallToolResult:
    if picture.image is None:
        return _failed("the model's safety checker withholds what was painted")
    for format, quality in _WAYS:
        file = encoded(picture.image, picture.info, format, quality)
        if len(file) <= _ROOM:
            break
    size = "{}x{}".format(*picture.image.size)
    return types.CallToolResult(
        content=[
            types.ImageContent(data=text(file), mime_type=f"image/{format}"),
            types.TextContent(text=f"{size}, seed {picture.seed}"),
        ]
    )


def _failed(message: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=message)], is_error=True)
