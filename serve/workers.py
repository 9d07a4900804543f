"""Threads that paint: one picture at a time each."""

import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from PIL import Image

from pleinair.runtime import PipelineOutput, Plan
from pleinair.runtime.errors import PleinairError

from .job import Job, Picture, State, Status
from .models import Models
from .queue import Queue, Turn

log = logging.getLogger("pleinair.serve")

_FAULT = "the server made a mistake; its log says which"
_SHORT = "not enough memory; ask for a smaller picture"


class Stopped(Exception):  # noqa: N818 (no error)
    """Nobody waits for the picture any more, or the server stops."""


Elsewhere = Callable[[Turn, Callable[[], None]], Picture]
"""Paints a turn on another machine; what it is given raises Stopped when nobody waits any more."""


def tell(turn: Turn, **facts: Any) -> None:
    """Change fields of the job's status, where it is about this picture."""

    def changed(status: Status) -> Status:
        if not status.shows(turn.index):
            return status
        about = status if status.index == turn.index else status.begun(turn.index)
        return replace(about, **facts)

    turn.job.change(changed)


class Heard(Protocol):
    """Who hears of turns, in the worker's thread."""

    def begun(self, turn: Turn) -> None:
        """A worker has taken a turn."""
        ...

    def finished(self, turn: Turn, picture: Picture) -> Mapping[int, Picture]:
        """Its picture is finished; all of the job's."""
        ...

    def ended(self, job: Job, state: State, error: str | None = None) -> None:
        """The job is to be over."""
        ...


class Workers:
    """`number` threads that take turns out of the queue until it is closed and empty.

    elsewhere: paints in their place, None where they do.
    """

    def __init__(
        self,
        number: int,
        queue: Queue,
        models: Models,
        heard: Heard,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self.number, self.queue, self.models, self.heard = number, queue, models, heard
        self._elsewhere = elsewhere
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name=f"pleinair-worker-{i}", daemon=True)
            for i in range(number)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether all of them are: one that is not will paint nothing any more."""
        return all(thread.is_alive() for thread in self._threads)

    def stop(self, seconds: float) -> None:
        """Wait for what is in the closed queue so long, then leave off within a step."""
        until = time.monotonic() + seconds
        while not self._stopping.is_set() and self._busy() and time.monotonic() < until:
            time.sleep(0.02)
        self.hurry()
        for thread in self._threads:
            thread.join()

    def hurry(self) -> None:
        """Leave off within a step."""
        self._stopping.set()

    def _busy(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while self._next():
            pass

    def _next(self) -> bool:
        """Take one turn; False where there are no more. Nothing of it is held afterwards."""
        turn = self.queue.take()
        if turn is None:
            return False
        try:
            end = self._end(turn)
        finally:
            self.queue.done(turn)  # before its job is over: who hears of that finds nothing in work
        if end is not None:
            try:
                self.heard.ended(turn.job, *end)
            except Exception:  # of who hears of it: the worker goes on
                log.exception("the end of job %s", turn.job.id)
        return not self._stopping.is_set()

    def _end(self, turn: Turn) -> tuple[State, str | None] | None:
        """Paint a turn; how its job is to end, and why, None where it goes on or is over."""
        try:
            self._check(turn.job)
            self.heard.begun(turn)
            turn.job.change(lambda status: status.begun(turn.index))
            return ("done", None) if self._finished(turn, self._picture(turn)) else None
        except Stopped:
            return None
        except PleinairError as error:
            return "failed", self.models.for_clients(error)
        except MemoryError:
            return "failed", _SHORT
        except Exception:
            log.exception("picture %d of job %s", turn.index, turn.job.id)
            return "failed", _FAULT

    def _finished(self, turn: Turn, picture: Picture) -> bool:
        """Add a picture to its job; whether it was the last."""
        pictures = self.heard.finished(turn, picture)

        def finished(status: Status) -> Status:
            if not turn.job.kept:
                return replace(status, pictures={**status.pictures, **pictures})
            # All that were kept by then: another worker may have kept its own since, and told it.
            return replace(status, pictures=max(pictures, status.pictures, key=len))

        return len(turn.job.change(finished).pictures) == turn.job.asked.number

    def _picture(self, turn: Turn) -> Picture:
        if self._elsewhere:
            return self._elsewhere(turn, lambda: self._check(turn.job))
        job, begun, steps = turn.job, time.perf_counter(), itertools.count(1)

        def on_stage(stage: str, done: int, total: int) -> None:
            self._check(job)
            tell(turn, stage=stage, done=done, total=total)

        def on_step(pipe: Any, step: int, timestep: Any, values: dict[str, Any]) -> None:
            shown: dict[str, Any] = {"step": next(steps), "steps": _steps(plan)}
            if job.previews and shown["step"] % job.previews == 0 and job.watched:
                preview: Image.Image = pipe.preview(values["pred_original_sample"])
                shown |= {"preview": preview, "previewed": job.status.previewed + 1}
            tell(turn, **shown)

        plan = self.models.plan(
            job.asked, turn.index, callback_on_stage=on_stage, callback_on_step_end=on_step
        )
        info = self.models.described(job.asked, plan)
        out = plan.paint()
        return Picture(
            image=out.images[0],
            seed=out.seeds[0],
            info=info,
            seconds=time.perf_counter() - begun,
            stages=_stages(out),
        )

    def _check(self, job: Job) -> None:
        if self._stopping.is_set() or job.status.over:
            raise Stopped


def _steps(plan: Plan) -> int:
    """Of both passes, where there are two."""
    return len(plan.timesteps) + (_steps(plan.then) if plan.then else 0)


def _stages(out: PipelineOutput) -> dict[str, float]:
    timings = out.timings
    return {
        "load": timings.load,
        "encode": timings.encode,
        "denoise": sum(timings.steps),
        "decode": timings.decode,
    }
