"""The pictures of one request, a job each, and those that each client waits for."""

import secrets
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...asked import Asked
from ...job import Job, Picture
from ...service import Service
from ..waiting import failure
from .errors import Unpainted

_REMEMBERED = 1000
"""Batches that are over, of all clients."""


@dataclass(eq=False)
class Batch:
    """Pictures that one request waits for, in their order: some can be ended, others painted.

    name: of the endpoint. task: the id by which its client asks how far it is.
    interrupted, skipped: what the client has asked meanwhile.
    """

    name: str
    client: str
    jobs: Sequence[Job]
    task: str
    created: float = field(default_factory=time.time)
    interrupted: bool = False
    skipped: bool = False

    @property
    def left(self) -> list[Job]:
        """Those that are not over."""
        return [job for job in self.jobs if not job.status.over]

    @property
    def working(self) -> list[Job]:
        return [job for job in self.left if job.status.state == "painting"]

    @property
    def current(self) -> Job | None:
        """The one in work, else the next; None when all are over."""
        return next(iter(self.working or self.left), None)

    @property
    def progress(self) -> float:
        """The share of the work that is done, 0 to 1."""
        done = (1.0 if job.status.over else job.status.progress for job in self.jobs)
        return sum(done) / len(self.jobs)

    @property
    def previewed(self) -> int:
        """How many previews there were: a new one has a new number."""
        return sum(job.status.previewed for job in self.jobs)

    async def painted(self) -> dict[int, Picture]:
        """The pictures by their places once all are over, but for those the client has ended.

        Raises Unpainted where others are missing.
        """
        statuses = [await job.finished() for job in self.jobs]
        for status in statuses:
            ended = status.state == "cancelled" and (self.interrupted or self.skipped)
            if status.state != "done" and not ended:
                raise Unpainted(*failure(status))
        return {
            place: picture
            for place, status in enumerate(statuses)
            for picture in status.pictures.values()
        }


class Batches:
    """What each client waits for, the oldest first, and the last ones that are over."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._waited_for: dict[str, list[Batch]] = {}
        self._over: deque[tuple[str, str]] = deque(maxlen=_REMEMBERED)

    async def submit(
        self,
        name: str,
        client: str,
        each: Sequence[Asked],
        *,
        previews: int = 0,
        task: str | None = None,
    ) -> Batch:
        """All of the pictures in the queue, or none of them: then it raises what refused one.

        task: None makes an id.
        """
        jobs: list[Job] = []
        try:
            for asked in each:
                jobs.append(await self._service.submit(asked, client, previews=previews))
        except BaseException:
            for job in jobs:
                self._service.cancel(job)
            raise
        batch = Batch(name, client, jobs, task or f"task({name}-{secrets.token_hex(8)})")
        self._waited_for.setdefault(client, []).append(batch)
        return batch

    def end(self, batch: Batch) -> None:
        """Nobody waits for it any more: what is not over is cancelled."""
        batches = self._waited_for.get(batch.client, [])
        if batch in batches:
            batches.remove(batch)
            self._over.append((batch.client, batch.task))
        if not batches:
            self._waited_for.pop(batch.client, None)
        for job in batch.jobs:
            self._service.cancel(job)

    def waiting(self, client: str) -> list[Batch]:
        """The client's batches that it waits for."""
        return list(self._waited_for.get(client, []))

    def is_over(self, client: str, task: str) -> bool:
        """Whether a task of the client's is one of the last that are over."""
        return (client, task) in self._over

    def current(self, client: str) -> Batch | None:
        """The client's batch that is in work, else its oldest; None where it waits for nothing."""
        batches = self._left(client)
        return next((batch for batch in batches if batch.working), next(iter(batches), None))

    def interrupt(self, client: str) -> None:
        """End the client's batches that are in work, or else the oldest that waits."""
        batches = self._left(client)
        for batch in [one for one in batches if one.working] or batches[:1]:
            batch.interrupted = True
            for job in batch.jobs:
                self._service.cancel(job)

    def skip(self, client: str) -> None:
        """End the client's picture in work; the batch's other ones are still painted."""
        batch = self.current(client)
        job = batch.current if batch else None
        if batch and job:
            batch.skipped = True
            self._service.cancel(job)

    def _left(self, client: str) -> list[Batch]:
        return [batch for batch in self.waiting(client) if batch.left]
