"""How long a request may take to arrive: who sends it byte by byte holds a connection for ever."""

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from .api.errors import problem


def in_time(receive: Receive, seconds: float) -> Receive:
    """Receives a body that has arrived so many seconds after the first call of it.

    Later it raises HTTPException, with status 408. What comes behind the body, which is the news
    that the client has gone away, may take any time.
    """
    until: float | None = None
    arrived = False

    async def bounded() -> Message:
        nonlocal until, arrived
        if arrived:
            return await receive()
        now = asyncio.get_running_loop().time()
        until = now + seconds if until is None else until
        try:
            message = await asyncio.wait_for(receive(), max(0.0, until - now))
        except asyncio.TimeoutError:
            raise HTTPException(408, _late(seconds), {"Connection": "close"}) from None
        arrived = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    return bounded


def protocol(seconds: float) -> type[asyncio.Protocol]:
    """uvicorn's HTTP, in which a request's head has so many seconds to arrive.

    They begin with the connection, and with what comes on it after an answer.
    """

    class InTime(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
        _giving_up: asyncio.TimerHandle | None = None
        _begun = False

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self._wait()

        def data_received(self, data: bytes) -> None:
            self._begun = True
            super().data_received(data)
            if self._is_asked or self.transport.get_protocol() is not self:  # a websocket's by now
                self._wait_no_more()
            elif self._giving_up is None:
                self._wait()

        def connection_lost(self, error: Exception | None) -> None:
            self._wait_no_more()
            super().connection_lost(error)

        @property
        def _is_asked(self) -> bool:
            """Whether a request's head has come, and no answer yet."""
            return self.cycle is not None and not self.cycle.response_complete

        def _wait(self) -> None:
            self._giving_up = asyncio.get_running_loop().call_later(seconds, self._give_up)

        def _wait_no_more(self) -> None:
            if self._giving_up is not None:
                self._giving_up.cancel()
                self._giving_up = None

        def _give_up(self) -> None:
            """A browser's spare connection, or one that was answered on, is closed in silence."""
            if self._begun and self.cycle is None:
                self.transport.write(_answer(seconds))
            self.transport.close()

    return InTime


def _late(seconds: float) -> str:
    return f"the request has not arrived within {seconds:g} seconds"


def _answer(seconds: float) -> bytes:
    """A response on the wire: of what was asked nothing is known yet."""
    response = problem("/", 408, _late(seconds), code="timeout", headers={"Connection": "close"})
    lines = [name + b": " + value for name, value in response.raw_headers]
    head = b"\r\n".join([b"HTTP/1.1 408 Request Timeout", *lines])
    return head + b"\r\n\r\n" + bytes(response.body)
