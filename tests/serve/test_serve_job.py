"""A job: who ends it, who follows it, and how far it is said to be."""

import asyncio
import threading

from pleinair.serve.asked import Asked
from pleinair.serve.job import Job, Picture, State, Status

PICTURE = Picture(image=None, seed=1, info={})


def job(number: int = 1) -> Job:
    return Job(Asked(number=number), "me")


def test_only_one_ends_it() -> None:
    one, ended = job(), []

    def end(state: State) -> None:
        one.end(state)
        ended.append(one.status.state)

    threads = [
        threading.Thread(target=end, args=[state]) for state in ("done", "failed", "cancelled") * 10
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ended) == 30
    assert len(set(ended)) == 1
    one.say(state="painting", step=3)
    assert (one.status.state, one.status.step) == (ended[0], 0)


def test_it_is_followed_to_its_end() -> None:
    one = job()

    async def follow() -> list[str]:
        return [status.state async for status in one.follow(every=30)]

    async def all_of_it() -> list[str]:
        following = asyncio.create_task(follow())
        await asyncio.sleep(0)
        assert one.watched
        for change in (lambda: one.say(state="painting"), lambda: one.end("done")):
            await asyncio.to_thread(change)
            await asyncio.sleep(0.05)
        return await following

    assert asyncio.run(all_of_it()) == ["waiting", "painting", "done"]
    assert not one.watched


def test_nothing_new_is_said_again_now_and_then() -> None:
    one = job()

    async def heartbeats() -> int:
        count = 0
        async for _ in one.follow(every=0.01):
            count += 1
            if count == 4:
                one.end("cancelled")
        return count

    assert asyncio.run(heartbeats()) == 5


def test_a_slow_reader_sees_the_last_of_it() -> None:
    one = job()

    async def slow() -> list[int]:
        seen = []
        async for status in one.follow():
            seen.append(status.step)
            if status.step == 0:
                for step in range(1, 50):
                    one.say(step=step)
                one.end("done")
        return seen

    assert asyncio.run(slow()) == [0, 49]


def test_who_goes_away_is_no_follower_any_more() -> None:
    one = job()

    async def leave() -> None:
        following = one.follow()
        await anext(following)
        assert one.watched
        await following.aclose()

    asyncio.run(leave())
    assert not one.watched
    one.end("done")  # and nobody is told in a loop that is closed


def test_a_server_that_stops_lets_followers_go() -> None:
    one = job()

    async def wait() -> Status:
        asyncio.get_running_loop().call_later(0.02, one.leave)
        return await asyncio.wait_for(one.finished(), 30)

    assert asyncio.run(wait()).state == "waiting"


def test_progress_counts_pictures_and_steps() -> None:
    one = job(4)
    assert one.status.progress == 0
    one.change(lambda status: status.begun(0))
    one.say(step=5, steps=10)
    assert one.status.progress == 1 / 8
    one.say(pictures={0: PICTURE})
    assert one.status.progress == 1 / 4  # the steps of a picture that is there count no more
    one.change(lambda status: status.begun(1))
    one.say(step=10, steps=10)
    assert one.status.progress == 1 / 2
    one.end("done")
    assert one.status.progress == 1


def test_of_two_pictures_in_work_one_is_shown() -> None:
    status = Status(number=4).begun(1)
    assert status.shows(1)
    assert not status.shows(2)
    assert status.begun(2).index == 1
    assert Status(number=4, state="painting", index=1, pictures={1: PICTURE}).begun(2).index == 2
