"""A job: pictures that a client waits for, and how far they are."""

import asyncio
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from PIL import Image

from .asked import Asked

State = Literal["waiting", "painting", "done", "failed", "cancelled"]
ENDED: frozenset[State] = frozenset({"done", "failed", "cancelled"})


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A finished picture.

    image: None where the model's safety checker withholds it.
    info: how it was made, by the names of a call's arguments. seconds: from its turn to its end.
    """

    image: Image.Image | None
    seed: int
    info: dict[str, object]
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Status:
    """How far a job is, as it was for a moment.

    pictures: by their index, those that are finished.
    index: the picture in work, or the one before. stage, done, total: as `callback_on_stage` tells.
    steps: of denoising, of the picture in work. step: those that are done.
    preview: what the picture in work looks like; `previewed` counts how often there was a new one.
    error: why it failed.
    """

    state: State = "waiting"
    number: int = 1
    pictures: dict[int, Picture] = field(default_factory=dict)
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


class Job:
    """What was asked, by whom, and how far it is. Any thread may ask or change it.

    client: who asks, for the queue's turns. kept: whether it outlives the server.
    previews: a preview is made every so many steps; 0 makes none.
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
    ) -> None:
        self.asked, self.client, self.kept, self.previews = asked, client, kept, previews
        self.id = id or uuid.uuid4().hex
        self.created = time.time() if created is None else created
        self.status = Status(number=asked.number)
        self._changing = threading.Lock()
        self._followers: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    def change(self, change: Callable[[Status], Status]) -> Status:
        """Replace the status by what `change` makes of it; one that is over stays as it is."""
        with self._changing:
            if not self.status.over:
                self.status = change(self.status)
            followers = list(self._followers.items())
        for event, loop in followers:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)
        return self.status

    def say(self, **facts: object) -> Status:
        """Change fields of the status."""
        return self.change(lambda status: replace(status, **facts))  # type: ignore[arg-type]

    def end(self, state: State, error: str | None = None) -> bool:
        """Whether this call ended it: only one does."""
        ended = False

        def over(status: Status) -> Status:
            nonlocal ended
            ended = True
            return replace(status, state=state, error=error, ended=time.time(), preview=None)

        self.change(over)
        return ended

    async def follow(self, every: float = 15.0) -> AsyncIterator[Status]:
        """Its status now, after changes, and at least every so many seconds, until it is over.

        Changes that follow each other quickly may be seen as one: a slow reader holds nothing up.
        """
        event = asyncio.Event()
        with self._changing:
            self._followers[event] = asyncio.get_running_loop()
        try:
            while True:
                event.clear()
                status = self.status
                yield status
                if status.over:
                    return
                try:
                    await asyncio.wait_for(event.wait(), every)
                except asyncio.TimeoutError:
                    continue
        finally:
            with self._changing:
                self._followers.pop(event, None)

    async def finished(self) -> Status:
        """Its status once it is over."""
        async for status in self.follow():
            if status.over:
                return status
        return self.status
