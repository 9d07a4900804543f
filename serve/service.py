"""What the APIs call: jobs are taken in, painted in their turn, followed and cancelled."""

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pleinair.runtime import Plan
from pleinair.runtime.errors import PleinairError

from .asked import Asked
from .errors import Closing, Refusal, Unknown
from .job import Job, Picture, State
from .models import Models
from .queue import Queue, Turn
from .settings import Settings, Size
from .speed import Speed, work
from .store import Entry, Store
from .usage import Usage
from .workers import Elsewhere, Workers

log = logging.getLogger("pleinair.serve")

_UNKNOWN = 30.0
"""Seconds until a client asks again, where nothing was measured yet."""
_TICK = 0.5
"""Seconds from one look at what has taken too long to the next."""


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
    timeout: seconds after which a job that is not kept is given up.
    jobs: those that wait or are painted, by their ids. painted: how many ended so. stages: seconds
        that pictures took, by stage. fault: why it cannot serve. elsewhere: as of Workers.
    """

    def __init__(
        self,
        models: Models,
        *,
        workers: int = 1,
        most: int = 100,
        store: Store | None = None,
        timeout: float | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self.models, self.store, self.timeout = models, store, timeout
        self.queue, self.speed = Queue(most), Speed()
        self.painted: Counter[State] = Counter({"done": 0, "failed": 0, "cancelled": 0})
        self.stages: Counter[str] = Counter()
        self.fault: Exception | None = None
        self.jobs: dict[str, Job] = {}
        # Held while a job is taken in and while one ends. Whoever holds it may then take the
        # queue's, the store's or a job's lock, and never the other way about; those three hold no
        # other.
        self._changing = threading.RLock()
        self._warm = self._closing = False
        self._drained = threading.Event()
        self._elsewhere = elsewhere
        self.workers = Workers(workers, self.queue, models, self, elsewhere)
        for job in store.unfinished() if store else []:
            self.jobs[job.id] = job
            self.queue.put(job)
        threading.Thread(target=self._look, name="pleinair-look", daemon=True).start()

    @classmethod
    def of(
        cls,
        settings: Settings,
        elsewhere: Elsewhere | None = None,
        patience: float | None = None,
    ) -> "Service":
        """A server's. Raises PleinairError for a model that is not there, or a store in use.

        elsewhere: as of Workers; of pictures at once there are as many as replicas.
        patience: as of Store.
        """
        models = Models.of(settings)
        return cls(
            models,
            workers=settings.replicas if elsewhere else settings.workers,
            most=settings.max_queue,
            store=Store(settings.folder, keep=settings.keep, patience=patience),
            timeout=settings.timeout,
            elsewhere=elsewhere,
        )

    # Whether it serves.

    @property
    def ready(self) -> bool:
        """Whether it takes work, and has compiled what it takes for the first."""
        return self._warm and not self._closing and self.healthy

    @property
    def healthy(self) -> bool:
        """Whether its workers are alive."""
        return self._closing or self.workers.alive

    @property
    def closing(self) -> bool:
        return self._closing

    def begin(self, sizes: Sequence[Size] = ()) -> None:
        """Compile for these sizes in another thread; then it is ready, or `fault` says why not."""
        warming = threading.Thread(
            target=self._warm_up, args=(sizes,), name="pleinair-warm", daemon=True
        )
        warming.start()

    def _warm_up(self, sizes: Sequence[Size]) -> None:
        begun = time.perf_counter()
        try:
            if self._elsewhere is None:
                self.models.warm(sizes)
            for job in self.unfinished:
                self._estimate(job)
        except Exception as error:  # whoever has begun it says so
            self.fault = error
            return
        self._warm = True
        log.info("ready after %.1f s", time.perf_counter() - begun)

    # What the APIs call.

    async def submit(
        self, asked: Asked, client: str, *, kept: bool = False, previews: int = 0
    ) -> Job:
        """A job that waits for its turn.

        kept: it outlives the client and the server. previews: steps from one to the next.
        Raises Refusal, and PleinairError for what a call of the library would refuse.
        """
        if self._closing:
            raise Closing("the server is about to stop; ask again later", retry_after=_UNKNOWN)
        self.models.bounds.check(asked)
        asked = asked.settled(self.models.named(asked.model))
        plans = await asyncio.to_thread(self._planned, asked)
        kept = kept and self.store is not None
        until = None if kept or self.timeout is None else time.monotonic() + self.timeout
        job = Job(asked, client, kept=kept, previews=previews, until=until)
        job.work = sum(map(work, plans)) / len(plans)
        job.usage = [Usage.of(plan) for plan in plans]
        try:
            await asyncio.to_thread(self._take_in, job)
        except asyncio.CancelledError:  # nobody waits; the thread may have it in, or not yet
            self.cancel(job)
            raise
        return job

    def _planned(self, asked: Asked) -> list[Plan]:
        """A plan for each image that is painted from, or the one for a text.

        Raises Refusal and PleinairError; neither tells a client a path of this machine.
        """
        try:
            firsts = range(0, asked.number, asked.of_each)
            return [self.models.plan(asked, index) for index in firsts]
        except PleinairError as error:
            text = self.models.for_clients(error)
            if isinstance(error, Refusal) or text == str(error):
                raise
            raise Refusal(text) from error

    def job(self, id: str) -> Job:
        """A job by its id: one that waits or is painted, or that is kept. Raises Unknown."""
        with self._changing:
            found = self.jobs.get(id)
        if found is None and self.store:
            found = self.store.find(id)
        if found is None:
            raise Unknown("there is no such job here", param="id")
        return found

    def listed(self, client: str, most: int = 100) -> list[Job]:
        """A client's jobs, newest first: those under way, and those that are over and kept."""
        kept = self.store.of_client(client, most) if self.store else []
        with self._changing:
            found = {job.id: job for job in kept} | {
                job.id: job for job in self.jobs.values() if job.client == client
            }
        return sorted(found.values(), key=lambda job: job.created, reverse=True)[:most]

    @property
    def unfinished(self) -> list[Job]:
        """The jobs that wait or are painted."""
        with self._changing:
            return list(self.jobs.values())

    def cancel(self, job: Job) -> None:
        """End a job; what is in work stops within a step. One that is over stays as it is."""
        self.ended(job, "cancelled")

    def place(self, job: Job) -> Place:
        """How many pictures come before a job's end, and how long that takes."""
        if job.status.over:
            return Place(0, 0.0)
        turns = self.queue.ahead(job)
        before = sum(turn.job is not job for turn in turns)
        seconds = [self._seconds(turn) for turn in turns]
        known = [one for one in seconds if one is not None]
        if not turns or len(known) < len(seconds):
            return Place(before, None)
        return Place(before, sum(known) / min(self.workers.number, len(turns)))

    def wait(self) -> float:
        """Seconds until the queue has room, as far as it is known."""
        seconds = [self._seconds(turn) for turn in self.queue.working]
        known = [one for one in seconds if one is not None]
        return max(1.0, min(known)) if known else _UNKNOWN

    async def drain(self, seconds: float) -> None:
        """Take no new work; finish what is in work within so many seconds, or leave off.

        Jobs that are kept go on after the next start; all others end as cancelled.
        """
        await asyncio.to_thread(self._drain, seconds)

    async def close(self, drain: float) -> None:
        """Let go of everything, after a drain where there was none."""
        await self.drain(drain)
        self.models.close()
        store, self.store = self.store, None
        if store:
            store.close()

    def hurry(self) -> None:
        """Leave off within a step, while it drains."""
        self.workers.hurry()

    def _drain(self, seconds: float) -> None:
        with self._changing:
            first, self._closing = not self._closing, True
        if not first:
            self._drained.wait()
            return
        try:
            working = [turn.job for turn in self.queue.working]
            for job in self.queue.close(working):
                self._leave_off(job)
            self.workers.stop(seconds)
            for job in self.unfinished:
                self._leave_off(job)
        finally:
            self._drained.set()

    def _leave_off(self, job: Job) -> None:
        if not job.kept:
            self.cancel(job)
        elif self.store:
            self.store.hand_back(job)
            job.leave()

    # What workers say.

    def begun(self, turn: Turn) -> None:
        if turn.job.kept and self.store:
            self.store.begin(turn.job)

    def finished(self, turn: Turn, picture: Picture) -> Mapping[int, Picture]:
        job = turn.job
        self.speed.measured(job, picture.seconds - picture.stages.get("load", 0.0))
        with self._changing:
            self.stages.update(picture.stages)
        if job.kept and self.store:
            return self.store.picture(job, turn.index, picture)
        return {turn.index: picture}

    def ended(self, job: Job, state: State, error: str | None = None) -> None:
        """End a job, whoever wants it; only the first has its way.

        It is said to be over when all that there is to count and to keep of it is counted and kept:
        who hears of its end finds it nowhere under way.
        """
        with self._changing:
            if job.status.over:
                return
            now = time.time()
            try:
                if job.kept and self.store:
                    self.store.end(job, job.status.over_as(state, error, now))
            finally:
                self.painted[state] += 1
                self.queue.remove(job)
                self.jobs.pop(job.id, None)
                job.end(state, error, now)

    # Beside them.

    def _take_in(self, job: Job) -> None:
        """Kept before it is queued: what was accepted is not lost."""
        entry = Entry.of(job) if job.kept else None
        with self._changing:
            if job.status.over:
                return
            self.queue.check(job, self.wait())
            if entry and self.store:
                self.store.add(entry)
            self.jobs[job.id] = job
            try:
                self.queue.put(job)
            except Closing:
                self.cancel(job)
                raise

    def _estimate(self, job: Job) -> None:
        """What a job of an earlier start takes; what can no longer be painted fails here."""
        try:
            job.work = work(self.models.plan(job.asked))
        except PleinairError as error:
            self.ended(job, "failed", self.models.for_clients(error))

    def _seconds(self, turn: Turn) -> float | None:
        """What is left of a picture's time."""
        seconds, status = self.speed.seconds(turn.job), turn.job.status
        if seconds is None or turn not in self.queue.working or status.index != turn.index:
            return seconds
        return seconds * (1 - status.step / status.steps) if status.steps else seconds

    def _look(self) -> None:
        """Look what has taken too long; say so, once, where a worker is gone."""
        reported = False
        while not self._drained.wait(_TICK):
            self._give_up()
            if not reported and not self.healthy:
                reported = True
                log.error("a worker has ended; start the server anew")

    def _give_up(self) -> None:
        for job in self.unfinished:
            if job.until is not None and time.monotonic() > job.until:
                self.ended(job, "failed", f"it took longer than {self.timeout:g} seconds")
