"""A server with the bundled model, and the library that its pictures are compared with."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx._transports import default

from gates import Gate
from pleinair.runtime import StableDiffusionPipeline
from pleinair.serve.settings import Settings
from servers import Started, started

POCKET = Path(__file__).parents[2] / "models" / "pocket"

Start = Callable[..., AbstractContextManager[Started]]


@pytest.fixture(scope="session", autouse=True)
def _patient() -> Iterator[None]:
    """A client waits longer than httpx's five seconds: tests run on busy machines.

    It reads the certificates of the web's authorities, which none of these tests asks, once a run
    and not for every request.
    """
    usual = inspect.signature(httpx.request).parameters["timeout"].default
    with pytest.MonkeyPatch.context() as patch:
        for what in ("connect", "read", "write", "pool"):
            patch.setattr(usual, what, 300.0)
        patch.setattr(default, "create_ssl_context", functools.cache(default.create_ssl_context))
        yield


@pytest.fixture(autouse=True)
def _compiled_once(compiled_once: None) -> None:
    """All of these servers, and the library beside them, paint with the bundled model."""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """One that tests share: `base_url`, `service`, `settings`. Leave nothing in work behind."""
    data = tmp_path_factory.mktemp("server")
    with started(Settings(model=(str(POCKET),), profile="exact", data=data)) as one:
        yield one


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """`with start(max_queue=1) as server:` a server of the test's own."""

    def of(**settings: Any) -> AbstractContextManager[Started]:
        own = {"model": (str(POCKET),), "profile": "exact", "data": tmp_path / "data", **settings}
        return started(Settings(**own))

    return of


@pytest.fixture(scope="session")
def library() -> StableDiffusionPipeline:
    """The same model, as a program paints with it."""
    return StableDiffusionPipeline.from_pretrained(POCKET, profile="exact")


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Closed before the first step of denoising; open when the test is over."""
    made = Gate()
    made.close_on(monkeypatch)
    yield made
    made.open()
