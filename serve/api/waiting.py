"""Answers that take as long as a picture: early headers, signs of life, and an end to the work
when nobody waits for it any more.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from pleinair.runtime.errors import PleinairError
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ..job import Job, Status
from ..service import Service
from .errors import problem, refused

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

    A quick one has its true status. For a slow one headers are sent early and then white space,
    which JSON allows before it; an error is then told in the body alone. Whoever goes away ends the
    job.
    """
    path = request.url.path
    finished = asyncio.ensure_future(job.finished())
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({finished, gone}, timeout=QUIET, return_when=asyncio.FIRST_COMPLETED)
        if finished.done():
            return await asyncio.to_thread(_response, path, finished.result(), answer)
        if gone.done():
            service.cancel(job)
            return Response(status_code=499)
    except BaseException:
        service.cancel(job)
        raise
    finally:
        for task in (finished, gone):
            task.cancel()
        await asyncio.gather(finished, gone, return_exceptions=True)
    return Stream(
        _late(path, job, answer), "application/json", closed=lambda: service.cancel(job)
    )


async def _gone(request: Request) -> None:
    """Returns when the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _late(path: str, job: Job, answer: Answer) -> AsyncIterator[bytes]:
    """White space until the job is over, or the server stops; then the answer."""
    status = job.status
    async with following(job) as changes:
        async for status in changes:
            yield b" "
    response = await asyncio.to_thread(_response, path, status, answer)
    yield bytes(response.body)


def _response(path: str, status: Status, answer: Answer) -> Response:
    """The answer to a job that is over, or that the server stops before."""
    if status.state != "done":
        code, message = failure(status)
        return problem(path, code, message, code=status.state)
    try:
        return Response(answer(status), media_type="application/json")
    except PleinairError as error:
        return refused(path, error)


def failure(status: Status) -> tuple[int, str]:
    """The HTTP status and the words for a job that ended without its pictures."""
    if status.state == "failed":
        return 500, status.error or "the picture failed"
    return 503, status.error or "the picture was given up: it was cancelled, or the server stops"
