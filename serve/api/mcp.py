"""The endpoint of MCP, for programs in which a language model asks."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from ..service import Service
from ..settings import Settings
from .errors import problem

PATH = "/mcp"


class Mcp:
    """The endpoint, an ASGI application that answers while `run` lasts.

    The protocol's package takes as long to import as all that a server needs beside it: that is
    left until somebody asks.
    """

    def __init__(self, service: Service, settings: Settings) -> None:
        self.service, self.settings = service, settings
        self._asked = asyncio.Event()
        self._answering: asyncio.Future[ASGIApp] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Only what is posted: a stream that is fetched stays open, and nothing comes in it."""
        if scope["method"] != "POST":
            message = "only what is posted is answered here"
            headers = {"Allow": "POST"}
            refusal = problem(PATH, 405, message, code="method_not_allowed", headers=headers)
            await refusal(scope, receive, send)
            return
        assert self._answering is not None
        self._asked.set()
        answer = await asyncio.shield(self._answering)  # who leaves ends it for nobody else
        await answer(scope, receive, send)

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        self._answering = asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(self._serve(self._answering))
        try:
            yield
        finally:
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving

    async def _serve(self, answering: "asyncio.Future[ASGIApp]") -> None:
        """Answer from the first request on, until this is cancelled."""
        await self._asked.wait()
        try:
            tool = await asyncio.to_thread(_tool, self.service, self.settings)
        except Exception as error:  # whoever asks is told, and the others are served
            answering.set_exception(error)
            return
        async with tool.run() as answer:
            answering.set_result(answer)
            await asyncio.Event().wait()


def _tool(service: Service, settings: Settings) -> Any:
    from .paint_tool import PaintTool

    return PaintTool(service, settings)
