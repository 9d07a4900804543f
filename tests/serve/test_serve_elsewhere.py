"""Pictures that others paint: the service's queue and jobs, as where it paints itself."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from pleinair.runtime.errors import PleinairError
from pleinair.serve.job import Picture
from pleinair.serve.queue import Turn
from pleinair.serve.service import Service
from pleinair.serve.workers import Stopped, tell
from serving import Painter, asked, picture

Check = Callable[[], None]


def service(paint: Callable[[Turn, Check], Picture]) -> Service:
    made = Service(Painter(), workers=2, elsewhere=paint)  # type: ignore[arg-type]
    made.begin()
    return made


def painted(turn: Turn) -> Picture:
    seed = turn.job.asked.call(turn.index)["seed"]
    return Picture(image=picture(seed), seed=seed, info={}, seconds=1.0)


def test_pictures_come_from_elsewhere_and_are_told_of() -> None:
    seen = []

    def paint(turn: Turn, check: Check) -> Picture:
        tell(turn, stage="denoise", step=3, steps=4)
        seen.append(turn.job.status.progress)
        return painted(turn)

    async def run() -> None:
        job = await made.submit(asked(number=3), "someone")
        status = await asyncio.wait_for(job.finished(), 30)
        assert status.state == "done"
        assert [status.pictures[i].seed for i in range(3)] == [1, 2, 3]
        await made.close(1.0)

    made = service(paint)
    assert made.workers.number == 2
    asyncio.run(run())
    assert seen[0] == pytest.approx(0.25)


def test_cancelled_it_is_told_so() -> None:
    begun, told = threading.Event(), threading.Event()

    def paint(turn: Turn, check: Check) -> Picture:
        begun.set()
        while True:
            try:
                check()
            except Stopped:
                told.set()
                raise

    async def run() -> None:
        job = await made.submit(asked(), "someone")
        assert await asyncio.to_thread(begun.wait, 30)
        made.cancel(job)
        assert await asyncio.to_thread(told.wait, 30)
        assert job.status.state == "cancelled"
        await made.close(1.0)

    made = service(paint)
    asyncio.run(run())


def test_what_cannot_be_painted_there_fails() -> None:
    def paint(turn: Turn, check: Check) -> Picture:
        raise PleinairError("5 replicas were lost over this picture")

    async def run() -> None:
        job = await made.submit(asked(), "someone")
        status = await asyncio.wait_for(job.finished(), 30)
        assert (status.state, status.error) == ("failed", "5 replicas were lost over this picture")
        await made.close(1.0)

    made = service(paint)
    asyncio.run(run())


def test_it_is_ready_without_a_model_in_memory() -> None:
    made = service(lambda turn, check: painted(turn))
    warmed: list[object] = []
    made.models.warm = warmed.append  # type: ignore[method-assign]
    made.begin(((64, 64),))
    for _ in range(3000):
        if made.ready:
            break
        threading.Event().wait(0.01)
    assert made.ready
    assert warmed == []
    asyncio.run(made.close(1.0))
