"""The service: jobs are painted in turn, followed, cancelled and answered once."""

import asyncio
import gc
import random
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pleinair.runtime.errors import EngineError
from pleinair.serve.errors import Closing, Full, Refusal, Unknown
from pleinair.serve.job import Job, Status
from pleinair.serve.service import Service
from pleinair.serve.store import Entry, Store
from serving import Gate, Painter, asked, picture, until


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


@asynccontextmanager
async def serving(painter: Painter, **options: Any) -> AsyncIterator[Service]:
    service = Service(painter, **options)  # type: ignore[arg-type]
    service.begin()
    try:
        yield service
    finally:
        await service.close(0)
        assert not service.jobs
        assert not service.queue.working


async def ended(job: Job) -> Status:
    return await asyncio.wait_for(job.finished(), 30)


async def came_about(condition: Callable[[], object]) -> None:
    await asyncio.to_thread(until, condition)


def test_pictures_are_painted_from_their_seeds() -> None:
    async def test() -> None:
        async with serving(Painter()) as service:
            job = await service.submit(asked(number=3, seed=7), "me")
            status = await ended(job)
            assert status.state == "done"
            assert [status.pictures[i].seed for i in range(3)] == [7, 8, 9]
            assert all(np.array_equal(status.pictures[i].image, picture(7 + i)) for i in range(3))
            assert status.pictures[0].info["prompt"] == "a red apple"
            assert status.started is not None
            assert service.painted["done"] == 1

    run(test)


def test_clients_take_turns() -> None:
    async def test() -> None:
        gate = Gate()
        painter = Painter(1, gate)
        async with serving(painter) as service:
            first = await service.submit(asked("first"), "a")
            await came_about(gate.waiting.is_set)
            many = await service.submit(asked("many", number=3), "a")
            other = await service.submit(asked("other", number=2), "b")
            assert (service.place(first).ahead, service.place(many).ahead) == (0, 3)
            assert service.place(other).ahead == 3
            gate.open()
            await asyncio.gather(*(ended(job) for job in (first, many, other)))
        order = [prompt for prompt, _ in painter.begun]
        assert order == ["first", "many", "other", "many", "other", "many"]

    run(test)


def test_a_full_queue_refuses_by_the_measured_speed() -> None:
    async def test() -> None:
        gate = Gate()
        async with serving(Painter(2, gate), most=2) as service:
            await service.submit(asked(), "a")
            await came_about(gate.waiting.is_set)
            await service.submit(asked(number=2), "b")
            with pytest.raises(Full) as refused:
                await service.submit(asked(), "c")
            assert refused.value.retry_after == 30  # nothing was measured yet
            assert len(service.jobs) == 2
            gate.open()
            await came_about(lambda: not service.jobs)
            job = await service.submit(asked(), "c")
            assert (await ended(job)).state == "done"
            assert service.speed.seconds(job) is not None
            assert 1 <= service.wait() <= 30

    run(test)


def test_a_place_is_told_in_seconds_once_something_was_painted() -> None:
    async def test() -> None:
        gate = Gate()
        async with serving(Painter(4, gate)) as service:
            first = await service.submit(asked(), "a")
            assert service.place(first).seconds is None
            gate.open(4)
            assert (await ended(first)).over
            assert service.place(first).seconds == 0
            gate.waiting.clear()
            second, third = [await service.submit(asked(), client) for client in "ab"]
            await came_about(gate.waiting.is_set)
            one = service.speed.seconds(second)
            assert one is not None
            assert service.place(second).seconds == pytest.approx(one)
            assert service.place(third).seconds == pytest.approx(2 * one)
            gate.open(2)
            await came_about(lambda: second.status.step == 2)
            assert service.place(third).seconds == pytest.approx(1.5 * one)
            gate.open()

    run(test)


def test_a_cancelled_picture_stops_within_a_step_and_frees_its_place() -> None:
    async def test() -> None:
        gate = Gate()
        painter = Painter(1000, gate)
        async with serving(painter) as service:
            job = await service.submit(asked(number=3), "a")
            await came_about(gate.waiting.is_set)
            waiting = await service.submit(asked("waiting"), "b")
            service.cancel(waiting)
            service.cancel(job)
            assert (await ended(job)).state == (await ended(waiting)).state == "cancelled"
            gate.open(1)
            await came_about(lambda: not service.queue.working)
            assert job.status.step == 0  # the step in work was its last
            assert len(service.queue) == 0
            painter.steps = 1
            gate.open()
            assert (await ended(await service.submit(asked("next"), "c"))).state == "done"
        assert [prompt for prompt, _ in painter.begun] == ["a red apple", "next"]

    run(test)


def test_cancelling_what_is_over_changes_nothing() -> None:
    async def test() -> None:
        async with serving(Painter()) as service:
            job = await service.submit(asked(), "me")
            await ended(job)
            service.cancel(job)
            assert job.status.state == "done"
            assert service.painted == {"done": 1, "failed": 0, "cancelled": 0}

    run(test)


def test_who_goes_away_while_the_job_is_taken_in_leaves_nothing() -> None:
    async def test() -> None:
        gate = Gate()
        async with serving(Painter(1, gate)) as service:
            submits = [asyncio.create_task(service.submit(asked(), str(i))) for i in range(40)]
            for number, task in enumerate(submits):
                if number % 2:
                    await asyncio.sleep(0.0005)
                task.cancel()
            done = await asyncio.gather(*submits, return_exceptions=True)
            for job in done:
                if isinstance(job, Job):
                    service.cancel(job)
            gate.open()
            await came_about(lambda: not service.jobs and not len(service.queue))

    run(test)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (EngineError("memory is short"), "memory is short"),
        (MemoryError(), "not enough memory; ask for a smaller picture"),
        (ZeroDivisionError(), "the server made a mistake; its log says which"),
    ],
)
def test_a_picture_that_fails_ends_its_job_alone(error: Exception, line: str) -> None:
    def pace(asked: Any, index: int, step: int) -> None:
        if asked.arguments["prompt"] == "bad" and index == 1:
            raise error

    async def test() -> None:
        painter = Painter(2, pace)
        async with serving(painter) as service:
            bad = await service.submit(asked("bad", number=4), "a")
            good = await service.submit(asked("good", number=2), "b")
            status = await ended(bad)
            assert (status.state, status.error, list(status.pictures)) == ("failed", line, [0])
            assert (await ended(good)).state == "done"
            assert service.healthy
        assert ("bad", 2) not in painter.begun

    run(test)


def test_what_takes_too_long_is_given_up() -> None:
    async def test() -> None:
        gate = Gate()
        async with serving(Painter(5, gate), timeout=0.3) as service:
            job = await service.submit(asked(), "a")
            waiting = await service.submit(asked(), "b")
            for one in (job, waiting):
                status = await ended(one)
                assert (status.state, status.error) == ("failed", "it took longer than 0.3 seconds")
            gate.open()

    run(test)


def test_previews_are_made_while_somebody_watches() -> None:
    async def test() -> None:
        gate = Gate()
        async with serving(Painter(6, gate)) as service:
            job = await service.submit(asked(), "a", previews=2)
            gate.open(2)
            await came_about(lambda: job.status.step == 2)
            assert job.status.previewed == 0
            following = job.follow()
            await anext(following)
            gate.open(2)
            await came_about(lambda: job.status.step == 4)
            assert job.status.previewed == 1
            assert job.status.preview is not None
            gate.open()
            await ended(job)
            assert job.status.preview is None
            await following.aclose()

    run(test)


def test_several_workers_paint_at_once() -> None:
    async def test() -> None:
        both = threading.Barrier(2, timeout=30)
        painter = Painter(3, lambda *_: both.wait())
        async with serving(painter, workers=2) as service:
            job = await service.submit(asked(number=2), "a")
            seen = [status.progress async for status in job.follow()]
            assert job.status.state == "done"
            assert len(job.status.pictures) == 2
            assert seen == sorted(seen)

    run(test)


@pytest.mark.parametrize("wrong", [{"model": "other"}, {"number": 11}, {"arguments": {"x": 1}}])
def test_what_cannot_be_painted_is_refused_at_once(wrong: dict[str, Any]) -> None:
    async def test() -> None:
        async with serving(Painter()) as service:
            with pytest.raises(Refusal):
                await service.submit(asked(**wrong), "me")
            assert not service.jobs

    run(test)


def test_a_job_that_is_over_is_its_follower_s_alone() -> None:
    async def test() -> None:
        async with serving(Painter(1)) as service:
            job = await service.submit(asked(), "me")
            await ended(job)
            with pytest.raises(Unknown):
                service.job(job.id)
            gone = weakref.ref(job)
            del job
            await came_about(lambda: gc.collect() >= 0 and gone() is None)

    run(test)


# Stopping.


def test_what_is_in_work_is_finished_and_nothing_new_is_taken() -> None:
    async def test() -> None:
        gate = Gate()
        service = Service(Painter(3, gate))  # type: ignore[arg-type]
        service.begin()
        working = await service.submit(asked(number=2), "a")
        await came_about(gate.waiting.is_set)
        waiting = await service.submit(asked(), "b")
        await came_about(lambda: service.ready)
        draining = asyncio.create_task(service.drain(30))
        assert (await ended(waiting)).state == "cancelled"
        assert service.closing
        assert not service.ready
        with pytest.raises(Closing):
            await service.submit(asked(), "c")
        gate.open()
        await draining
        assert working.status.state == "done"
        await service.close(30)  # which has nothing left to do
        assert service.models.closed  # type: ignore[attr-defined]

    run(test)


def test_what_does_not_end_in_time_is_left_off() -> None:
    async def test() -> None:
        painter = Painter(1000, lambda *_: threading.Event().wait(0.01))
        service = Service(painter)  # type: ignore[arg-type]
        job = await service.submit(asked(), "a")
        await came_about(lambda: job.status.step > 2)
        await service.close(0.05)
        assert job.status.state == "cancelled"
        assert not service.workers.alive

    run(test)


def test_a_second_signal_hurries() -> None:
    async def test() -> None:
        painter = Painter(1000, lambda *_: threading.Event().wait(0.01))
        service = Service(painter)  # type: ignore[arg-type]
        job = await service.submit(asked(), "a")
        await came_about(lambda: job.status.step > 2)
        closing = asyncio.create_task(service.close(1000))
        await asyncio.sleep(0.05)
        service.hurry()
        await asyncio.wait_for(closing, 10)
        assert job.status.state == "cancelled"

    run(test)


def test_a_worker_that_ends_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        service = Service(Painter(1))  # type: ignore[arg-type]
        service.begin()
        await came_about(lambda: service.ready)
        monkeypatch.setattr(service.queue, "take", lambda: None)
        job = await service.submit(asked(), "a")  # wakes the worker, which then ends
        await ended(job)
        await came_about(lambda: not service.healthy)
        assert not service.ready
        await service.close(0)

    run(test)


# Jobs that outlive the server.


def test_a_kept_job_goes_on_after_the_next_start(tmp_path: Path) -> None:
    async def first() -> str:
        gate = Gate()
        service = Service(Painter(2, gate), store=Store(tmp_path))  # type: ignore[arg-type]
        job = await service.submit(asked(number=3), "me", kept=True)
        other = await service.submit(asked("not kept"), "me")
        gate.open(2)
        await came_about(lambda: len(job.status.pictures) == 1)
        following = asyncio.create_task(job.finished())
        await asyncio.sleep(0)
        closing = asyncio.create_task(service.close(0))
        await came_about(service.workers._stopping.is_set)
        gate.open(1)  # the step that it stops within
        await closing
        assert not (await following).over
        assert other.status.state == "cancelled"
        return job.id

    async def second(id: str) -> None:
        gate = Gate()  # or it may be over, and the store's, before it is looked at
        painter = Painter(2, gate)
        async with serving(painter, store=Store(tmp_path)) as service:
            job = service.job(id)
            assert service.listed("me")[0] is job
            gate.open(4)  # the steps of two pictures
            status = await ended(job)
            assert status.state == "done"
            assert [status.pictures[i].seed for i in range(3)] == [1, 2, 3]
            found = service.job(id)
            assert found is not job  # of the store now
            assert found.status.state == "done"
            assert np.array_equal(found.status.pictures[2].image, picture(3))
            assert [one.id for one in service.listed("me")] == [id]
            assert service.listed("you") == []
        assert [index for _, index in painter.begun] == [1, 2]  # none twice

    async def test() -> None:
        await second(await first())

    run(test)


def test_a_kept_job_that_can_no_longer_be_painted_fails(tmp_path: Path) -> None:
    async def test() -> None:
        store = Store(tmp_path)
        job = Job(asked(arguments={"gone": 1}, model="fake"), "me", kept=True)
        store.add(Entry.of(job))
        async with serving(Painter(), store=store) as service:
            await came_about(lambda: not service.jobs)
            found = service.job(job.id)
            assert found.status.state == "failed"
            assert "there is no argument 'gone'" in str(found.status.error)

    run(test)


def test_workers_that_finish_at_once_lose_none_of_a_kept_job_s_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is kept before the second, and says so after it."""

    async def test() -> None:
        store, first = Store(tmp_path), threading.Event()
        keep, end = store.picture, Service.ended

        def kept(job: Job, index: int, made: Any) -> Any:
            if index == 1:
                assert first.wait(30)
            pictures = keep(job, index, made)
            if index == 0:
                first.set()
                until(lambda: len(job.status.pictures) == 2)
            return pictures

        def ended(service: Service, *arguments: Any) -> None:
            until(lambda: not service.queue.working)
            end(service, *arguments)

        monkeypatch.setattr(store, "picture", kept)
        monkeypatch.setattr(Service, "ended", ended)
        async with serving(Painter(1), workers=2, store=store) as service:
            job = await service.submit(asked(number=2), "me", kept=True)
            assert list((await job.finished()).pictures) == [0, 1]

    run(test)


def test_a_disk_that_fails_fails_the_job_and_not_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        store = Store(tmp_path)
        async with serving(Painter(), store=store) as service:
            with monkeypatch.context() as patch:
                patch.setattr(store, "picture", lambda *_: 1 / 0)
                job = await service.submit(asked(), "me", kept=True)
                assert (await ended(job)).state == "failed"
            assert (await ended(await service.submit(asked(), "me", kept=True))).state == "done"

    run(test)


# Everything at once.


def test_who_hears_of_an_end_finds_it_counted(tmp_path: Path) -> None:
    """By following or by looking again and again: no moment lies between the two."""
    late: list[str] = []

    def look(service: Service, job: Job, turns: int) -> None:
        if job.id in service.jobs:
            late.append("under way")
        if sum(service.painted.values()) < turns:
            late.append("not counted")
        if any(turn.job is job for turn in service.queue.working):
            late.append("in work")
        if job.kept and service.job(job.id).status.state != job.status.state:
            late.append("not kept")

    def watch(service: Service, job: Job, before: int) -> None:
        while not job.status.over:
            pass
        look(service, job, before + 1)

    async def client(service: Service, name: str) -> None:
        for i in range(50):
            before = sum(service.painted.values())
            job = await service.submit(asked(), name, kept=i % 6 == 0)
            watching = asyncio.to_thread(watch, service, job, before) if i % 5 == 0 else None
            watcher = asyncio.create_task(watching) if watching else None
            await ended(job)
            look(service, job, before + 1)
            if watcher:
                await watcher

    async def test() -> None:
        async with serving(Painter(1), workers=2, store=Store(tmp_path)) as service:
            await asyncio.gather(*(client(service, f"c{i}") for i in range(5)))
            assert service.painted["done"] == 250
        assert late == []

    run(test)


@pytest.mark.parametrize("workers", [1, 3])
def test_every_job_is_answered_once_under_fifty_clients(tmp_path: Path, workers: int) -> None:
    """Random submits, cancels and departures: nothing is lost, painted twice or left behind."""

    async def client(service: Service, name: str, answers: list[str]) -> None:
        choose = random.Random(name)
        for _ in range(6):
            try:
                job = await service.submit(
                    asked(name, number=choose.randint(1, 3), seed=choose.randint(0, 99)),
                    name,
                    kept=choose.random() < 0.2,
                    previews=choose.choice((0, 1)),
                )
            except Full:
                answers.append("full")
                await asyncio.sleep(choose.random() / 50)
                continue
            if choose.random() < 0.3:
                await asyncio.sleep(choose.random() / 50)
                service.cancel(job)
            status = await ended(job)
            answers.append(status.state)
            if status.state == "done":
                seeds = [status.pictures[i].seed for i in range(job.asked.number)]
                assert job.asked.seed is not None
                assert seeds == list(range(job.asked.seed, job.asked.seed + job.asked.number))

    async def test() -> None:
        painter = Painter(2, lambda *_: threading.Event().wait(0.0005))
        answers: list[str] = []
        async with serving(painter, workers=workers, most=40, store=Store(tmp_path)) as service:
            await asyncio.gather(*(client(service, f"c{i}", answers) for i in range(50)))
            assert len(answers) == 300
            assert set(answers) == {"done", "cancelled", "full"}
            assert not service.jobs
            assert service.painted["done"] == answers.count("done")
            assert service.painted["cancelled"] == answers.count("cancelled")
            await came_about(lambda: not service.queue.working)  # cancelled ones end their step
            assert not service.jobs
            assert len(service.queue) == 0
        assert len(painter.begun) >= answers.count("done")

    run(test)
