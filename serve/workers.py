"""Threads that paint: one picture at a time each."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from PIL import Image

from pleinair.runtime.errors import PleinairError
from pleinair.runtime.record.made import description

from .job import Picture, Status
from .models import Models
from .queue import Queue, Turn

log = logging.getLogger("pleinair.serve")

_STAGES = {"load", "encode", "picture", "denoise", "decode", "enlarge"}


class Stopped(Exception):  # noqa: N818 (no error)
    """Nobody waits for the picture any more, or the server stops."""


class Workers:
    """`number` threads that take turns out of the queue until it is closed.

    painted: called with a turn and its picture, before the job is told of it.
    """

    def __init__(
        self,
        number: int,
        queue: Queue,
        models: Models,
        painted: Callable[[Turn, Picture], None],
        ended: Callable[[Turn], None],
    ) -> None:
        self.queue, self.models, self.painted, self.ended = queue, models, painted, ended
        self._stopping = threading.Event()
        self._working: set[Turn] = set()
        self._changing = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, name=f"pleinair-worker-{i}", daemon=True)
            for i in range(number)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def working(self) -> set[Turn]:
        """The turns in work."""
        with self._changing:
            return set(self._working)

    def stop(self, seconds: float) -> None:
        """Wait for the pictures in work so long, then leave off within a step."""
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while turn := self.queue.take():
            with self._changing:
                self._working.add(turn)
            try:
                self._paint(turn)
            finally:
                with self._changing:
                    self._working.discard(turn)
                self.ended(turn)

    def _paint(self, turn: Turn) -> None:
        job, begun = turn.job, time.perf_counter()
        try:
            self._check(turn)
            job.say(state="painting", index=turn.index, step=0, started=_first(job.status))
            picture = self._picture(turn)
        except Stopped:
            return
        except PleinairError as error:
            job.end("failed", str(error))
        except Exception:
            log.exception("a picture of job %s", job.id)
            job.end("failed", "the server made a mistake; its log says which")
        else:
            picture = replace(picture, seconds=time.perf_counter() - begun)
            self.painted(turn, picture)
            pictures = {**job.status.pictures, turn.index: picture}
            job.change(lambda status: replace(status, pictures={**status.pictures, **pictures}))
            if len(job.status.pictures) == job.asked.number:
                job.end("done")

    def _picture(self, turn: Turn) -> Picture:
        job = turn.job

        def on_stage(stage: str, done: int, total: int) -> None:
            self._check(turn)
            job.say(stage=stage, done=done, total=total)

        def on_step(pipe: Any, step: int, timestep: Any, values: dict[str, Any]) -> None:
            shown: dict[str, Any] = {"step": step + 1, "steps": len(plan.timesteps)}
            if job.previews and (step + 1) % job.previews == 0:
                preview: Image.Image = pipe.preview(values["pred_original_sample"])
                shown |= {"preview": preview, "previewed": job.status.previewed + 1}
            job.say(**shown)

        plan = self.models.plan(
            job.asked, turn.index, callback_on_stage=on_stage, callback_on_step_end=on_step
        )
        out = plan.paint()
        info = description(self.models.pipeline(job.asked), plan)
        return Picture(image=out.images[0], seed=out.seeds[0], info=info)

    def _check(self, turn: Turn) -> None:
        if self._stopping.is_set() or turn.job.status.over:
            raise Stopped


def _first(status: Status) -> float:
    return status.started or time.time()
