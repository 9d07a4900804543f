"""Pictures that wait: clients take turns, and there are never more than so many."""

import threading
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass

from .errors import Closing, Full
from .job import Job


@dataclass(frozen=True)
class Turn:
    """One picture of a job."""

    job: Job
    index: int


class Queue:
    """Turns by client; each client in turn has one of its pictures painted.

    most: turns that wait at once.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._clients: OrderedDict[str, deque[Turn]] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self) -> int:
        with self._changed:
            return sum(map(len, self._clients.values()))

    def put(self, job: Job, *, retry_after: float = 30.0, forced: bool = False) -> None:
        """Queue what is missing of a job's pictures.

        forced: also where there is no room, for jobs that were accepted before.
        Raises Full, and Closing when the server is about to stop.
        """
        turns = [Turn(job, i) for i in range(job.asked.number) if i not in job.status.pictures]
        with self._changed:
            if self._closed:
                raise Closing("the server is about to stop; ask again later", retry_after=30.0)
            waiting = sum(map(len, self._clients.values()))
            if waiting + len(turns) > self.most and not forced:
                raise Full(
                    f"{waiting} pictures are waiting, and at most {self.most} may; ask again later",
                    retry_after=retry_after,
                )
            self._clients.setdefault(job.client, deque()).extend(turns)
            self._changed.notify_all()

    def take(self) -> Turn | None:
        """The next turn, waited for; None when the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._clients)
            if self._closed:
                return None
            client, turns = self._clients.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._clients[client] = turns  # behind all others
            return turn

    def remove(self, job: Job) -> None:
        """Take a job's waiting pictures out."""
        with self._changed:
            left = deque(turn for turn in self._clients.pop(job.client, ()) if turn.job is not job)
            if left:
                self._clients[job.client] = left
                self._clients.move_to_end(job.client, last=False)

    def ahead(self, job: Job) -> list[Turn]:
        """The turns before the last one of a job, its own among them, in their order."""
        turns = list(self._in_order())
        last = max((i for i, turn in enumerate(turns) if turn.job is job), default=-1)
        return turns[: last + 1]

    def close(self) -> list[Turn]:
        """Give out nothing any more; what waited."""
        with self._changed:
            waiting = [turn for turns in self._clients.values() for turn in turns]
            self._closed = True
            self._clients.clear()
            self._changed.notify_all()
            return waiting

    def _in_order(self) -> Iterator[Turn]:
        with self._changed:
            clients = [deque(turns) for turns in self._clients.values()]
        while clients:
            for turns in clients:
                yield turns.popleft()
            clients = [turns for turns in clients if turns]
