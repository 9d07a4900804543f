"""Pictures that wait, in which clients take turns, and those in work."""

import threading
from collections import OrderedDict, deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from .errors import Closing, Full, TooLarge
from .job import Job


@dataclass(frozen=True)
class Turn:
    """One picture of a job."""

    job: Job
    index: int


class Queue:
    """Turns by client; each client in turn has one of its pictures painted.

    most: turns that wait at once, 1 or more.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._clients: OrderedDict[str, deque[Turn]] = OrderedDict()
        self._working: list[Turn] = []
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        with self._changed:
            return self._waiting()

    @property
    def working(self) -> list[Turn]:
        """The turns that were taken and are not done."""
        with self._changed:
            return list(self._working)

    @property
    def lengths(self) -> tuple[int, int]:
        """How many turns wait, and how many are in work, at one moment."""
        with self._changed:
            return self._waiting(), len(self._working)

    def check(self, job: Job, retry_after: float) -> None:
        """Raise Full where there is no room for a job, Closing when the server is about to stop."""
        if job.asked.number > self.most:
            raise TooLarge(
                f"{job.asked.number} pictures are asked for, and at most {self.most} may wait",
                param="number",
            )
        with self._changed:
            self._check_open()
            waiting = self._waiting()
            if waiting + job.asked.number > self.most:
                raise Full(
                    f"{waiting} pictures are waiting, and at most {self.most} may; ask again later",
                    retry_after=retry_after,
                )

    def put(self, job: Job) -> None:
        """Queue what is missing of a job's pictures. Raises Closing."""
        turns = [Turn(job, i) for i in range(job.asked.number) if i not in job.status.pictures]
        with self._changed:
            self._check_open()
            if turns:
                self._clients.setdefault(job.client, deque()).extend(turns)
                self._changed.notify(len(turns))

    def take(self) -> Turn | None:
        """The next turn, waited for, and then in work until it is `done`.

        None when the queue is closed and empty.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._clients)
            if not self._clients:
                return None
            client, turns = self._clients.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._clients[client] = turns  # behind all others
            self._working.append(turn)
            return turn

    def done(self, turn: Turn) -> None:
        """Nobody works at a turn any more."""
        with self._changed:
            self._working.remove(turn)

    def remove(self, job: Job) -> None:
        """Take a job's waiting pictures out."""
        with self._changed:
            if job.client in self._clients:
                self._keep({job.client: [t for t in self._clients[job.client] if t.job is not job]})

    def ahead(self, job: Job) -> list[Turn]:
        """The turns before the last one of a job, its own among them, in their order.

        Those in work come first; where no turn of the job waits they are its own alone.
        """
        with self._changed:
            working, waiting = list(self._working), list(self._in_order())
        last = max((i for i, turn in enumerate(waiting) if turn.job is job), default=None)
        if last is None:
            return [turn for turn in working if turn.job is job]
        return [*working, *waiting[: last + 1]]

    def close(self, stay: Collection[Job] = ()) -> list[Job]:
        """Take nothing in any more, and give out nothing but the turns of some jobs.

        The jobs that were waiting beside them.
        """
        with self._changed:
            self._closed = True
            dropped = {
                turn.job.id: turn.job
                for turns in self._clients.values()
                for turn in turns
                if turn.job not in stay
            }
            self._keep(
                {
                    client: [turn for turn in turns if turn.job in stay]
                    for client, turns in self._clients.items()
                }
            )
            self._changed.notify_all()
            return list(dropped.values())

    def _keep(self, left: dict[str, list[Turn]]) -> None:
        """Leave these turns alone to clients, each in its place; one without any is gone."""
        for client, turns in left.items():
            if turns:
                self._clients[client] = deque(turns)
            else:
                del self._clients[client]

    def _check_open(self) -> None:
        if self._closed:
            raise Closing("the server is about to stop; ask again later", retry_after=30.0)

    def _waiting(self) -> int:
        return sum(map(len, self._clients.values()))

    def _in_order(self) -> Iterator[Turn]:
        clients = [deque(turns) for turns in self._clients.values()]
        while clients:
            for turns in clients:
                yield turns.popleft()
            clients = [turns for turns in clients if turns]
