"""What the APIs call: jobs are taken in, painted in their turn, followed and cancelled."""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from .asked import Asked
from .errors import Closing, Unknown
from .job import Job, Picture
from .models import Models
from .queue import Queue, Turn
from .speed import Speed, work
from .workers import Workers

_UNKNOWN = 30.0
"""Seconds until a client asks again, where nothing was measured yet."""
_REMEMBERED = 1000
"""Jobs that are over and can still be asked for."""


class Kept(Protocol):
    """Where jobs outlive the server: see `store.Store`."""

    def add(self, job: Job) -> None: ...
    def picture(self, job: Job, index: int, picture: Picture) -> None: ...
    def end(self, job: Job) -> None: ...
    def unfinished(self) -> list[Job]: ...


@dataclass(frozen=True)
class Place:
    """Where a waiting or painting job stands.

    ahead: pictures of others that come before its last one. seconds: until its end; None where
    nothing of the kind was painted yet.
    """

    ahead: int
    seconds: float | None


class Service:
    """One machine's pictures.

    workers: pictures at once. most: pictures that wait. store: keeps jobs that are to be kept.
    """

    def __init__(
        self, models: Models, *, workers: int = 1, most: int = 100, store: Kept | None = None
    ) -> None:
        self.models, self.store = models, store
        self.queue, self.speed = Queue(most), Speed()
        self.jobs: dict[str, Job] = {}
        self.painted: dict[str, int] = {"done": 0, "failed": 0, "cancelled": 0}
        self._work: dict[str, float] = {}
        self._closing = False
        self.workers = Workers(workers, self.queue, models, self._keep, self._over)
        for job in store.unfinished() if store else []:
            self._take_in(job, forced=True)

    async def submit(
        self, asked: Asked, client: str, *, kept: bool = False, previews: int = 0
    ) -> Job:
        """A job that waits for its turn.

        kept: it outlives the client and the server. previews: steps from one to the next.
        Raises Refusal, and PleinairError for what a call of the library would refuse.
        """
        if self._closing:
            raise Closing("the server is about to stop; ask again later", retry_after=_UNKNOWN)
        asked = asked.settled(self.models.named(asked.model))
        plan = await asyncio.to_thread(self.models.plan, asked)
        job = Job(asked, client, kept=kept, previews=previews)
        self._work[job.id] = work(plan)
        try:
            self._take_in(job)
        except Exception:
            del self._work[job.id]
            raise
        return job

    def job(self, id: str) -> Job:
        """A job by its id. Raises Unknown."""
        if id not in self.jobs:
            raise Unknown("there is no such job here", param="id")
        return self.jobs[id]

    def cancel(self, job: Job) -> None:
        """End a job; what is in work stops within a step. One that is over stays as it is."""
        if job.end("cancelled"):
            self.queue.remove(job)
            self._finish(job)

    def place(self, job: Job) -> Place:
        """How many pictures come before a job's end, and how long that takes."""
        turns = self.queue.ahead(job)
        others = [turn for turn in turns if turn.job is not job]
        working = self.workers.working
        ours = [turn for turn in (*turns, *working) if turn.job is job]
        before = [turn for turn in (*others, *working) if turn.job is not job]
        seconds = [self._seconds(turn) for turn in (*before, *ours)]
        if any(one is None for one in seconds):
            return Place(len(before), None)
        return Place(len(before), sum(filter(None, seconds)) / max(1, self.workers.number))

    def wait(self) -> float:
        """Seconds until the queue has room, as far as it is known."""
        seconds = [self._seconds(turn) for turn in self.workers.working]
        known = [one for one in seconds if one is not None]
        return max(1.0, min(known)) if known else _UNKNOWN

    async def close(self, drain: float) -> None:
        """Take no new work; finish what is in work within `drain` seconds, or leave off.

        Jobs that are kept go on after the next start; all others end as cancelled.
        """
        self._closing = True
        for turn in self.queue.close():
            if not turn.job.kept:
                self.cancel(turn.job)
        await asyncio.to_thread(self.workers.stop, drain)
        for job in list(self.jobs.values()):
            if not job.kept:
                self.cancel(job)
        self.models.close()

    def _take_in(self, job: Job, *, forced: bool = False) -> None:
        self.queue.put(job, retry_after=self.wait(), forced=forced)
        self.jobs[job.id] = job
        if job.kept and self.store and not forced:
            self.store.add(job)

    def _seconds(self, turn: Turn) -> float | None:
        """What is left of a picture's time."""
        job, status = turn.job, turn.job.status
        seconds = self.speed.seconds(_kind(job), self._work.get(job.id, 0.0))
        if seconds is None or turn not in self.workers.working or not status.steps:
            return seconds
        return seconds * (1 - status.step / status.steps)

    def _keep(self, turn: Turn, picture: Picture) -> None:
        """A picture is painted."""
        if turn.job.kept and self.store:
            self.store.picture(turn.job, turn.index, picture)
        self.speed.measured(_kind(turn.job), self._work.get(turn.job.id, 0.0), picture.seconds)

    def _over(self, turn: Turn) -> None:
        """A worker has left a turn."""
        if turn.job.status.over:
            self._finish(turn.job)

    def _finish(self, job: Job) -> None:
        if self._work.pop(job.id, None) is None:
            return
        self.painted[job.status.state] += 1
        self.queue.remove(job)
        if job.kept and self.store:
            self.store.end(job)
        over = [id for id, one in self.jobs.items() if one.status.over]
        for id in over[:-_REMEMBERED]:
            del self.jobs[id]


def _kind(job: Job) -> tuple[str, str | None]:
    return job.asked.model or "", job.asked.profile
