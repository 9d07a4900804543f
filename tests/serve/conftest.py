"""A server with the bundled model, and the library that its pictures are compared with."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from gates import Gate
from pleinair.runtime import StableDiffusionPipeline
from pleinair.serve.settings import Settings
from servers import Started, started

POCKET = Path(__file__).parents[2] / "models" / "pocket"

Start = Callable[..., AbstractContextManager[Started]]


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
