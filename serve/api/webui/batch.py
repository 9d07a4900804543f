"""The pictures of one request, a job each, and those that each client waits for."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ...asked import Asked
from ...job import Job
from ...service import Service


@dataclass(eq=False)
class Batch:
    """Pictures that one request waits for, in their order.

    interrupted, skipped: what the client has asked meanwhile.
    """

    name: str
    jobs: Sequence[Job]
    created: float = field(default_factory=time.time)
    interrupted: bool = False
    skipped: bool = False

    @property
    def left(self) -> list[Job]:
        """Those that are not over."""
        return [job for job in self.jobs if not job.status.over]

    @property
    def painting(self) -> list[Job]:
        """Those that are in work."""
        return [job for job in self.left if job.status.state == "painting"]

    @property
    def current(self) -> Job | None:
        """The one in work, else the next; None when all are over."""
        return next(iter(self.painting or self.left), None)

    @property
    def progress(self) -> float:
        """The share of the work that is done, 0 to 1."""
        done = (1.0 if job.status.over else job.status.progress for job in self.jobs)
        return sum(done) / len(self.jobs)


class Batches:
    """What each client waits for, the oldest first."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._waited_for: dict[str, list[Batch]] = {}

    async def submit(
        self, name: str, client: str, each: Sequence[Asked], *, previews: int = 0
    ) -> Batch:
        """All of the pictures in the queue, or none of them: then it raises what refused one."""
        jobs: list[Job] = []
        try:
            for asked in each:
                jobs.append(await self._service.submit(asked, client, previews=previews))
        except BaseException:
            for job in jobs:
                self._service.cancel(job)
            raise
        return Batch(name, jobs)

    @contextlib.contextmanager
    def waiting(self, client: str, batch: Batch) -> Iterator[None]:
        """While this lasts the client waits for the batch; what is not over then is cancelled."""
        self._waited_for.setdefault(client, []).append(batch)
        try:
            yield
        finally:
            batches = self._waited_for[client]
            batches.remove(batch)
            if not batches:
                del self._waited_for[client]
            for job in batch.jobs:
                self._service.cancel(job)

    def current(self, client: str) -> Batch | None:
        """The client's batch that is in work, else its oldest; None where it waits for nothing."""
        batches = [batch for batch in self._waited_for.get(client, []) if batch.left]
        return next((batch for batch in batches if batch.painting), next(iter(batches), None))

    def interrupt(self, client: str) -> None:
        """End the client's batches that are in work, or else the oldest that waits."""
        batches = [batch for batch in self._waited_for.get(client, []) if batch.left]
        for batch in [one for one in batches if one.painting] or batches[:1]:
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
