"""The queue: whose turn is next, how many wait, and what is left when it closes."""

import threading

import pytest

from pleinair.serve.asked import Asked
from pleinair.serve.errors import Closing, Full, TooLarge
from pleinair.serve.job import Job
from pleinair.serve.queue import Queue
from serving import until


def job(client: str, number: int = 1) -> Job:
    return Job(Asked(number=number), client)


def filled(*jobs: Job, most: int = 100) -> Queue:
    queue = Queue(most)
    for one in jobs:
        queue.put(one)
    return queue


def order(queue: Queue) -> str:
    """Clients and indexes in the order in which they are taken."""
    taken = []
    while len(queue):
        turn = queue.take()
        assert turn is not None
        taken.append(f"{turn.job.client}{turn.index}")
    return " ".join(taken)


def test_clients_take_turns() -> None:
    assert order(filled(job("a", 3), job("b", 2), job("c"))) == "a0 b0 c0 a1 b1 a2"


def test_a_client_s_jobs_are_one_after_the_other() -> None:
    assert order(filled(job("a", 2), job("a", 1), job("b", 1))) == "a0 b0 a1 a0"


def test_who_has_just_been_served_is_behind_all_others() -> None:
    queue = filled(job("a"), job("b"))
    assert (turn := queue.take()) is not None
    assert turn.job.client == "a"
    queue.put(job("a"))
    queue.put(job("c"))
    assert order(queue) == "b0 a0 c0"


def test_a_full_queue_says_when_to_come_again() -> None:
    queue = filled(job("a", 3), most=4)
    queue.check(job("b"), 7.0)
    with pytest.raises(Full, match="3 pictures are waiting, and at most 4 may") as refused:
        queue.check(job("b", 2), 7.0)
    assert (refused.value.status, refused.value.retry_after) == (429, 7.0)


def test_what_never_fits_is_not_told_to_come_again() -> None:
    with pytest.raises(TooLarge) as refused:
        Queue(4).check(job("a", 5), 7.0)
    assert refused.value.retry_after is None


def test_what_comes_before_a_job() -> None:
    first, second, third = job("a", 3), job("b", 2), job("a", 1)
    queue = filled(first, second, third)
    assert [turn.job for turn in queue.ahead(second)] == [first, second, first, second]
    assert len(queue.ahead(third)) == 6
    assert queue.ahead(job("c")) == []
    assert order(queue) == "a0 b0 a1 b1 a2 a0"  # which has taken nothing out


def test_a_cancelled_job_leaves_the_others_in_their_places() -> None:
    first, second = job("a", 2), job("a", 2)
    queue = filled(first, job("b", 2), second)
    queue.remove(first)
    assert order(queue) == "a0 b0 a1 b1"
    queue.remove(second)
    assert len(queue) == 0


def test_pictures_that_are_there_are_not_queued() -> None:
    some = job("a", 3)
    some.say(pictures={0: None, 2: None})
    assert order(filled(some)) == "a1"
    some.say(pictures={0: None, 1: None, 2: None})
    assert len(filled(some)) == 0


def test_closing_leaves_what_is_to_stay() -> None:
    stays, goes = job("a", 2), job("b", 2)
    queue = filled(stays, goes)
    assert queue.close([stays]) == [goes]
    for refused in (lambda: queue.put(job("c")), lambda: queue.check(job("c"), 1.0)):
        with pytest.raises(Closing):
            refused()
    assert order(queue) == "a0 a1"
    assert queue.take() is None


def test_closing_wakes_those_who_wait() -> None:
    queue, found = Queue(4), []
    threads = [threading.Thread(target=lambda: found.append(queue.take())) for _ in range(3)]
    for thread in threads:
        thread.start()
    queue.close()
    until(lambda: len(found) == 3)
    assert found == [None] * 3


def test_fifty_threads_take_each_turn_once() -> None:
    queue, taken = Queue(10_000), []

    def take() -> None:
        while turn := queue.take():
            taken.append((turn.job.id, turn.index))

    takers = [threading.Thread(target=take) for _ in range(25)]
    givers = [
        threading.Thread(target=lambda n=n: [queue.put(job(f"c{n}", 3)) for _ in range(20)])
        for n in range(25)
    ]
    for thread in (*takers, *givers):
        thread.start()
    until(lambda: len(taken) == 25 * 20 * 3)
    queue.close()
    for thread in (*takers, *givers):
        thread.join(30)
    assert len(set(taken)) == len(taken) == 25 * 20 * 3
