"""What dies on a Ray cluster loses nothing: a node, a replica, the ingress, the controller, all.

They take some minutes: pytest -m cluster -n 0 tests/serve
"""

import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from clusters import (
    CONTROLLER,
    INGRESS,
    REPLICA,
    STEPS,
    Nodes,
    answer,
    client_of,
    computing,
    free_port,
    job,
    kill,
    picture,
    pixels,
    processes,
    request,
    running,
    serving,
    submitted,
    two_nodes,
    until,
    waiting,
    working,
)
from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.model import catalog

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore:::ray"),  # what Ray says of its own fields
]

JOBS, NUMBER = 3, 4
"""Jobs, and pictures of each."""
Pictures = dict[str, list[dict[str, Any]]]
"""Of jobs, by their ids."""


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    with two_nodes() as found:
        yield found


def alone(seed: int) -> bytes:
    """The same picture, painted here."""
    pipe = StableDiffusionPipeline.from_pretrained(catalog.bundled(), profile="exact", threads=1)
    return pipe("a red apple", seed=seed, num_inference_steps=STEPS).images[0].tobytes()


def test_every_request_is_answered_though_a_node_is_killed(nodes: Nodes, tmp_path: Path) -> None:
    with serving(tmp_path / "data") as client, ThreadPoolExecutor(16) as pool:
        answers = [
            pool.submit(client.post, "/v1/images/generations", json=request(seed))
            for seed in range(16)
        ]
        until(lambda: sum(answer.done() for answer in answers) >= 4)
        nodes.kill_second()
        painted = [picture(answer.result()) for answer in answers]
    for seed, image in enumerate(painted):
        assert image == alone(seed)


def under_way(client: httpx.Client) -> Pictures:
    """Jobs that were accepted, with pictures that are there while others wait."""
    ids = [submitted(client, number=NUMBER, seed=100 * i) for i in range(JOBS)]
    until(lambda: any(job(client, id)["pictures"] for id in ids))
    assert waiting(client) > 0, "it was too quick to be killed in the middle"
    return {id: job(client, id)["pictures"] for id in ids}


def check_that_they_end(client: httpx.Client, before: Pictures) -> None:
    """All are painted, and none of those that were there before is painted again."""
    left = JOBS * NUMBER - sum(map(len, before.values()))
    assert waiting(client) + working(client) <= left
    for number, (id, there) in enumerate(before.items()):
        until(lambda id=id: job(client, id)["state"] == "done")
        pictures = job(client, id)["pictures"]
        assert [one for one in pictures if one in there] == there
        assert [one["seed"] for one in pictures] == [100 * number + i for i in range(NUMBER)]
        for index in (0, NUMBER - 1):
            assert pixels(client, id, index) == alone(100 * number + index)


def test_jobs_outlive_the_ingress(nodes: Nodes, tmp_path: Path) -> None:
    with serving(tmp_path) as client:
        before = under_way(client)
        kill(INGRESS)
        check_that_they_end(client, before)


def test_jobs_outlive_the_controller(nodes: Nodes, tmp_path: Path) -> None:
    """And after it there are again as many replicas as there are to be."""
    with serving(tmp_path) as client:
        before = under_way(client)
        kill(CONTROLLER)
        check_that_they_end(client, before)
        first, second = (replica.pid for replica in processes(REPLICA))
        os.kill(first, signal.SIGKILL)
        until(lambda: len({one.pid for one in processes(REPLICA)} - {first, second}) == 1)
        picture(client.post("/v1/images/generations", json=request(1)))


def test_jobs_outlive_the_machine(tmp_path: Path) -> None:
    """All of a cluster's processes end at once, and the same command is given again."""
    port, data, log = free_port(), tmp_path / "data", tmp_path / "log"
    words = [sys.executable, "-m", "pleinair", "serve", "--ray", "--profile", "exact"]
    words += ["--threads", "1", "--min-replicas", "2", "--replicas", "2"]
    words += ["--port", str(port), "--data", str(data)]
    with running(words, log) as command, client_of(port) as client:
        before = under_way(client)
        command.kill()
    with running(words, log) as command, client_of(port) as client:
        check_that_they_end(client, before)
        assert command.stopped(signal.SIGTERM) == "stopped"


def test_a_dead_ingress_leaves_no_replica_painting(nodes: Nodes, tmp_path: Path) -> None:
    """Nobody waits for what it was told to paint; it is free for what the next one asks."""
    with serving(tmp_path) as client, ThreadPoolExecutor(1) as pool:
        asked = request(1, num_inference_steps=150, size="512x512")
        asking = pool.submit(client.post, "/v1/images/generations", json=asked)
        until(computing)
        kill(INGRESS)
        given = asking.result()
        assert given.status_code >= 500 or not given.text.strip()  # whose head came early
        until(lambda: not computing(), 30)
        until(lambda: answer(client, "/ready"))
        again = client.post("/v1/images/generations", json=request(2))
        assert (again.status_code, len(again.json()["data"])) == (200, 1)
