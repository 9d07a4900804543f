"""Answers that take as long as a picture: early headers, signs of life, and an end to the work
when nobody waits for it any more.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from pleinair.runtime.errors import PleinairError

from ..job import Job, Status
from ..service import Service
from .errors import mistaken, problem, refused

log = logging.getLogger("pleinair.serve")

QUIET = 10.0
"""Seconds that an answer has to come with its true status; then headers are sent without it."""
BEAT = 15.0
"""Seconds from one sign of life to the next: proxies give up after 30 and more."""

Answer = Callable[[Status], bytes]
"""The body for a job that is done."""

_SLOW = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "x-should-retry": "false"}
"""Of answers that come piece by piece: a proxy holds none of them back."""


class Stream(StreamingResponse):
    """A response that comes piece by piece, and lets go of what it holds however it ends."""

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        media_type: str,
        *,
        closed: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(pieces, media_type=media_type, headers=_SLOW)
        self._pieces, self._closed = pieces, closed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._closed()

    async def stream_response(self, send: Send) -> None:
        async with contextlib.aclosing(self._pieces):  # type: ignore[type-var]
            await super().stream_response(send)


def event(name: str, data: Mapping[str, Any]) -> bytes:
    """A server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


HEARTBEAT = b": waiting\n\n"
"""A remark in a stream of events, which every client skips."""


def following(job: Job) -> AbstractAsyncContextManager[AsyncIterator[Status]]:
    """A job's status at each change and at each beat, for as long as the block lasts."""
    return contextlib.aclosing(job.follow(BEAT))  # type: ignore[type-var]


async def answered(request: Request, service: Service, job: Job, answer: Answer) -> Response:
    """What `answer` makes of a job that is done, or why there is none, in the API's own shape.

    See `awaited`. Whoever goes away ends the job.
    """

    async def response() -> Response:
        status = await job.finished()
        if status.state != "done":
            code, message = failure(status)
            return problem(request.url.path, code, message, code=status.state)
        return Response(await asyncio.to_thread(answer, status), media_type="application/json")

    return await awaited(request, response(), lambda: service.cancel(job))


async def awaited(
    request: Request, response: Coroutine[Any, Any, Response], cancel: Callable[[], object]
) -> Response:
    """A response of JSON that takes long to make.

    A quick one has its true status. For a slow one headers are sent early and then white space,
    which JSON allows before it; an error is then told in the body alone.

    cancel: called when the client has gone away, and when all is over.
    """
    coming = asyncio.ensure_future(response)
    gone = asyncio.ensure_future(_gone(request))

    def closed() -> None:
        coming.cancel()
        cancel()

    try:
        await asyncio.wait({coming, gone}, timeout=QUIET, return_when=asyncio.FIRST_COMPLETED)
        if coming.done():
            return coming.result()
        if gone.done():
            closed()
            return Response(status_code=499)
    except BaseException:
        closed()
        raise
    finally:
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
    return Stream(_late(request.url.path, coming), "application/json", closed=closed)


async def _gone(request: Request) -> None:
    """Returns when the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _late(path: str, coming: asyncio.Future[Response]) -> AsyncIterator[bytes]:
    """White space until there is a body."""
    while not coming.done():
        yield b" "
        await asyncio.wait({coming}, timeout=BEAT)
    try:
        response = coming.result()
    except PleinairError as error:
        response = refused(path, error)
    except Exception:
        log.exception("an answer to %s", path)
        response = mistaken(path)
    yield bytes(response.body)


def failure(status: Status) -> tuple[int, str]:
    """The HTTP status and the words for a job that ended without its pictures."""
    if status.state == "failed":
        return 500, status.error or "the picture failed"
    return 503, status.error or "the picture was given up: it was cancelled, or the server stops"
