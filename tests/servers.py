"""A real server in a thread, for tests of the APIs with the clients that people use."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import uvicorn

from pleinair.runtime import Plan
from pleinair.runtime.denoise.denoiser import Denoiser
from pleinair.runtime.errors import EngineError
from pleinair.serve.app import create_app
from pleinair.serve.arrival import protocol
from pleinair.serve.service import Service
from pleinair.serve.settings import Settings

_SECONDS = 300.0
"""So long a busy machine may take."""


def is_up(url: str) -> bool:
    """Whether a server's process answers by now."""
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{url}/health").status_code == 200
    return False


@dataclass(frozen=True)
class Started:
    """A server that answers at `base_url`, without a slash at the end."""

    base_url: str
    service: Service
    settings: Settings

    def until_idle(self) -> None:
        """Wait until nothing waits and nothing is in work."""
        until = time.monotonic() + _SECONDS
        while len(self.service.queue) or self.service.queue.working:
            assert time.monotonic() < until, "a slot leaked"
            time.sleep(0.01)


@contextlib.contextmanager
def started(settings: Settings) -> Iterator[Started]:
    """A server on a free port of 127.0.0.1; it is ready, and is closed behind the block."""
    service = Service.of(settings)
    config = uvicorn.Config(
        create_app(service, settings),
        http=protocol(settings.upload_timeout),
        host="127.0.0.1",
        port=0,
        log_config=None,
        lifespan="on",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="server")
    thread.start()
    try:
        service.begin(settings.warm)
        _wait(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        _wait(lambda: httpx.get(f"{url}/ready").status_code == 200)
        yield Started(url, service, settings)
    finally:
        server.should_exit = True
        thread.join(_SECONDS)
        assert not thread.is_alive()


def _wait(there: Callable[[], bool]) -> None:
    until = time.monotonic() + _SECONDS
    while not there():
        assert time.monotonic() < until
        time.sleep(0.01)


def failing(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """No picture is painted any more; the plans that were tried."""
    tried: list[Plan] = []

    def paint(plan: Plan) -> None:
        tried.append(plan)
        raise EngineError("out of paint")

    monkeypatch.setattr(Plan, "paint", paint)
    return tried


def slowly(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Each step takes longer."""
    predict = Denoiser.__call__

    def slow(self: Any, *args: Any, **more: Any) -> Any:
        time.sleep(seconds)
        return predict(self, *args, **more)

    monkeypatch.setattr(Denoiser, "__call__", slow)
