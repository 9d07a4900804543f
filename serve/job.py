"""A job: pictures that a client waits for, and how far they are."""

import asyncio
import contextlib
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from PIL import Image

from .asked import Asked
from .usage import Usage

State = Literal["waiting", "painting", "done", "failed", "cancelled"]
ENDED: frozenset[State] = frozenset({"done", "failed", "cancelled"})


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A finished picture.

    image: None where the model's safety checker withholds it.
    info: how it was made, by the names of a call's arguments.
    seconds: from its turn to its end. stages: of those, what each stage took.
    """

    image: Image.Image | None
    seed: int
    info: Mapping[str, Any]
    seconds: float = 0.0
    stages: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Status:
    """How far a job is, as it was for a moment.

    pictures: by their index, those that are finished; those that are kept are read when asked for.
    index: the picture in work, or the one before. stage, done, total: as `callback_on_stage` tells.
    steps: of denoising, of the picture in work. step: those that are done.
    preview: what the picture in work looks like; `previewed` counts how often there was a new one.
    error: why it failed.
    """

    state: State = "waiting"
    number: int = 1
    pictures: Mapping[int, Picture] = field(default_factory=dict)
    index: int = 0
    stage: str = ""
    done: int = 0
    total: int = 0
    step: int = 0
    steps: int = 0
    preview: Image.Image | None = None
    previewed: int = 0
    error: str | None = None
    started: float | None = None
    ended: float | None = None

    @property
    def over(self) -> bool:
        return self.state in ENDED

    @property
    def progress(self) -> float:
        """The share of all pictures' steps that is done, 0 to 1."""
        if self.state == "done":
            return 1.0
        within = self.step / self.steps if self.steps and self.state == "painting" else 0.0
        if self.index in self.pictures:
            within = 0.0
        return min(1.0, (len(self.pictures) + within) / self.number)

    def over_as(self, state: State, error: str | None, ended: float) -> "Status":
        """The same once it has ended so. ended: when, by time.time()."""
        return replace(self, state=state, error=error, ended=ended, preview=None)

    def shows(self, index: int) -> bool:
        """Whether it is about that picture, or free to be: of several in work it shows one."""
        return self.state == "waiting" or self.index == index or self.index in self.pictures

    def begun(self, index: int) -> "Status":
        """A picture's turn has come."""
        started = self.started or time.time()
        if not self.shows(index):
            return replace(self, started=started)
        return replace(
            self,
            state="painting",
            started=started,
            index=index,
            stage="",
            step=0,
            steps=0,
            preview=None,
        )


class Job:
    """What was asked, by whom, and how far it is. Any thread may ask or change it.

    client: who asks, for the queue's turns. kept: whether it outlives the server.
    previews: a preview is made every so many steps while somebody watches; 0 makes none.
    until: when it is given up, by time.monotonic(). work: what one of its pictures takes, as
        speed.work counts; None where that is not known. usage: of a picture from each image.
    """

    def __init__(
        self,
        asked: Asked,
        client: str,
        *,
        kept: bool = False,
        previews: int = 0,
        id: str | None = None,
        created: float | None = None,
        until: float | None = None,
        status: Status | None = None,
    ) -> None:
        self.asked, self.client, self.kept, self.previews = asked, client, kept, previews
        self.id = id or uuid.uuid4().hex
        self.created = time.time() if created is None else created
        self.until = until
        self.work: float | None = None
        self.usage: Sequence[Usage] = ()
        self.status = status or Status(number=asked.number)
        self._changing = threading.Lock()
        self._followers: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self._left = False

    @property
    def watched(self) -> bool:
        """Whether somebody follows it."""
        return bool(self._followers)

    def change(self, change: Callable[[Status], Status]) -> Status:
        """Replace the status by what `change` makes of it; one that is over stays as it is."""
        with self._changing:
            if not self.status.over:
                self.status = change(self.status)
            status = self.status
        self._tell()
        return status

    def say(self, **facts: Any) -> Status:
        """Change fields of the status."""
        return self.change(lambda status: replace(status, **facts))

    def end(self, state: State, error: str | None = None, at: float | None = None) -> None:
        """End it, unless it is over. at: when, by time.time(); None is now."""
        ended = time.time() if at is None else at
        self.change(lambda status: status.over_as(state, error, ended))

    def leave(self) -> None:
        """Let its followers go: it does not go on before the server's next start."""
        self._left = True
        self._tell()

    async def follow(self, every: float = 15.0) -> AsyncIterator[Status]:
        """Its status now, after changes, and at least every so many seconds, until it is over.

        Changes that follow each other quickly may be seen as one: a slow reader holds nothing up.
        Where the server stops meanwhile, the last status is not one that is over.
        """
        event = asyncio.Event()
        with self._changing:
            self._followers[event] = asyncio.get_running_loop()
        try:
            while True:
                event.clear()
                left, status = self._left, self.status
                yield status
                if status.over or left:
                    return
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(event.wait(), every)
        finally:
            with self._changing:
                self._followers.pop(event, None)

    async def finished(self) -> Status:
        """Its status once it is over."""
        async for _ in self.follow():
            pass
        return self.status

    def _tell(self) -> None:
        with self._changing:
            followers = list(self._followers.items())
        for event, loop in followers:
            with contextlib.suppress(RuntimeError):  # its loop is closed
                loop.call_soon_threadsafe(event.set)
