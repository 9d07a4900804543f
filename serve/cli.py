"""`pleinair serve`: the service behind HTTP until it is told to stop."""

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

import uvicorn

from pleinair.runtime.errors import SettingError, shown
from pleinair.runtime.exits import harmless, tell

from . import process, settings
from .app import create_app
from .arrival import protocol
from .service import Service
from .settings import Settings

parser = settings.parser

_LINGER = 5
"""Seconds that open connections have once all their pictures are over."""
_LOGGERS = ("pleinair", "uvicorn.error")


def main(words: Sequence[str]) -> int:
    """Serve until Ctrl-C or SIGTERM. Raises PleinairError where it cannot begin."""
    asked = settings.read(words)
    asked.check_safe()
    if asked.ray:
        from .cluster.command import run

        return run(asked)
    process.settle()
    with _listening(asked) as listener, _logging():
        service = Service.of(asked)
        app = create_app(service, asked)
        tell(f"{address(listener, asked.host)}: opening {service.models.first}; Ctrl-C stops")
        service.begin(asked.warm)
        _Server(app, service, asked).run(sockets=[listener])
        if service.fault:
            raise service.fault
    tell("stopped")
    return 0


class _Server(uvicorn.Server):
    """A server that, told to stop, first lets the service end what is in work.

    Meanwhile it answers: a client that waits gets its picture, new work is refused. Told a second
    time it stops at once.
    """

    def __init__(self, app: Any, service: Service, asked: Settings) -> None:
        config = uvicorn.Config(
            app,
            http=protocol(asked.upload_timeout),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_LINGER,
        )
        super().__init__(config)
        self._service, self._drain = service, asked.drain
        self._told = 0
        self._closing: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called between any two instructions: what is to be done about it is done in a tick."""
        self._told += 1

    async def on_tick(self, counter: int) -> bool:
        if self._told and self._closing is None:
            tell(f"stopping: pictures in work have {self._drain:g} seconds")
            self._closing = asyncio.create_task(self._service.drain(self._drain))
        if self._told > 1:
            self._service.hurry()
        if self._service.fault or (self._closing and self._closing.done()):
            self.should_exit = True
        return await super().on_tick(counter)


@contextlib.contextmanager
def _listening(asked: Settings) -> Iterator[socket.socket]:
    """A socket at the address; SettingError where it cannot be had."""
    where = f"--host {shown(asked.host)} --port {asked.port}"
    try:
        found = socket.getaddrinfo(
            asked.host, asked.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, place = found[0]
        listener = socket.create_server(place[:2], family=family, backlog=2048)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingError(f"{where}: cannot listen there: {reason}; choose another") from error
    with listener:
        yield listener


def address(listener: socket.socket, host: str) -> str:
    """What to type into a browser."""
    port = listener.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return "\n".join(harmless(line) for line in text.splitlines())


@contextlib.contextmanager
def _logging() -> Iterator[None]:
    """What is logged goes to stderr with its time: a server runs for months."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line("%(asctime)s %(levelname)s %(message)s"))
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(one, one.level, one.handlers, one.propagate) for one in loggers]
    for one in loggers:
        one.handlers, one.propagate = [handler], False
    loggers[0].setLevel(logging.INFO)
    loggers[1].setLevel(logging.WARNING)
    try:
        yield
    finally:
        for one, level, handlers, propagate in before:
            one.setLevel(level)
            one.handlers, one.propagate = handlers, propagate
