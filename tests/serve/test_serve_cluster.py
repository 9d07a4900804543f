"""The service on a Ray cluster of two nodes on this machine, a replica a node.

These and the tests beside them take some minutes: pytest -m cluster -n 0 tests/serve
"""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from clusters import (
    REPLICA,
    Nodes,
    computing,
    deploy,
    figure,
    job,
    picture,
    processes,
    request,
    serving,
    submitted,
    two_nodes,
    until,
    working,
)
from pleinair.runtime.model import catalog

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore:::ray"),  # what Ray says of its own fields
]


@pytest.fixture(scope="module", autouse=True)
def nodes() -> Iterator[Nodes]:
    """What tests share: none of them kills anything, and nothing may fail to start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT", "1")
        with two_nodes(cpus=2) as found:
            yield found


LONG = {"num_inference_steps": 150, "width": 512, "height": 512}
"""What takes minutes."""


class TestTwoReplicas:
    """What one service is enough for."""

    @pytest.fixture(scope="class")
    def client(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
        with serving(tmp_path_factory.mktemp("data"), max_queue=2) as made:
            yield made

    def test_previews_are_streamed(self, client: httpx.Client) -> None:
        streamed = request(3, stream=True, partial_images=2)
        with client.stream("POST", "/v1/images/generations", json=streamed) as answer:
            kinds = [line[7:] for line in answer.iter_lines() if line.startswith("event: ")]
        assert kinds.count("image_generation.partial_image") >= 1
        assert kinds[-1] == "image_generation.completed"

    def test_a_client_that_goes_away_frees_its_replica(self, client: httpx.Client) -> None:
        asked = request(1, **LONG, stream=True)
        with client.stream("POST", "/v1/images/generations", json=asked) as answer:
            assert answer.status_code == 200
            until(lambda: working(client) == 1)
            until(computing)
        until(lambda: working(client) == 0)
        until(lambda: not computing(), 120)
        picture(client.post("/v1/images/generations", json=request(5)))

    def test_what_is_too_much_comes_later(self, client: httpx.Client) -> None:
        jobs = [submitted(client, **LONG) for _ in range(2)]
        until(lambda: working(client) == 2)
        jobs += [submitted(client, **LONG) for _ in range(2)]
        refused = client.post("/v1/images/generations", json=request(5))
        assert refused.status_code == 429
        assert float(refused.headers["Retry-After"]) > 0
        for id in jobs:
            assert client.delete(f"/v1/jobs/{id}").json()["state"] == "cancelled"
        picture(client.post("/v1/images/generations", json=request(5)))


def test_drained_it_finishes_what_is_in_work(tmp_path: Path) -> None:
    from ray import serve

    with serving(tmp_path / "data") as client, ThreadPoolExecutor(2) as pool:
        painting = pool.submit(
            client.post, "/v1/images/generations", json=request(1, num_inference_steps=150)
        )
        until(lambda: working(client) == 1)
        ingress = serve.get_app_handle("pleinair")
        draining = ingress.drain.remote()
        until(lambda: client.get("/ready").status_code == 503)
        refused = client.post("/v1/images/generations", json=request(2))
        assert refused.status_code == 503
        picture(painting.result())
        draining.result(timeout_s=60)


def test_a_new_version_waits_for_the_one_before_it(tmp_path: Path) -> None:
    """It has the jobs once that has finished what clients wait for."""
    with serving(tmp_path / "data") as client, ThreadPoolExecutor(1) as pool:
        asked = request(1, num_inference_steps=60, width=256, height=256)
        waited = pool.submit(client.post, "/v1/images/generations", json=asked)
        until(lambda: working(client) == 1)
        id = submitted(client, number=8, seed=0)
        deploy(tmp_path / "data", max_steps=60)
        picture(waited.result())
        until(lambda: job(client, id)["state"] == "done")
        too_many = client.post("/v1/images/generations", json=request(1, num_inference_steps=61))
        assert too_many.status_code == 400


def test_a_request_goes_to_a_replica_that_has_its_model(tmp_path: Path) -> None:
    """Each replica has compiled the first model when it is ready; the second is loaded once."""
    for name in ("first", "second"):
        shutil.copytree(catalog.bundled(), tmp_path / name)
    models = tuple(str(tmp_path / name) for name in ("first", "second"))
    with serving(tmp_path / "data", model=models) as client:

        def loading() -> float:
            return figure(client, 'pleinair_stage_seconds_total{stage="load"}')

        def paint(seed: int) -> bytes:
            asked = (request(seed, model=name) for name in ("first", "second"))
            one, two = (picture(client.post("/v1/images/generations", json=ask)) for ask in asked)
            assert one == two
            return one

        paint(0)
        once = loading()
        pictures = {paint(seed) for seed in range(1, 6)}
        assert len(pictures) == 5
        assert loading() - once < once / 2


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replicas come and go within seconds."""
    from pleinair.serve.cluster import application

    for name in ("upscale_delay_s", "downscale_delay_s", "metrics_interval_s"):
        monkeypatch.setitem(application._SCALING, name, 1)
    monkeypatch.setitem(application._SCALING, "look_back_period_s", 2)


@pytest.mark.usefixtures("quick")
def test_there_are_as_many_replicas_as_pictures_wait(tmp_path: Path) -> None:
    with serving(tmp_path / "data", min_replicas=1) as client:
        assert len(processes(REPLICA)) == 1
        id = submitted(client, number=5, **LONG)
        until(lambda: len(processes(REPLICA)) == 2)
        client.delete(f"/v1/jobs/{id}")
        until(lambda: len(processes(REPLICA)) == 1)
        picture(client.post("/v1/images/generations", json=request(1)))


@pytest.mark.usefixtures("quick")
def test_without_threads_a_replica_has_a_node_to_itself(tmp_path: Path) -> None:
    """A node has room for two, and pictures wait for more."""
    with serving(tmp_path / "data", threads=None, min_replicas=1, replicas=4) as client:
        id = submitted(client, number=8, **LONG)
        until(lambda: len(processes(REPLICA)) == 2)
        client.delete(f"/v1/jobs/{id}")
        id = submitted(client, number=8, num_inference_steps=100)
        until(lambda: job(client, id)["state"] == "done")
        nodes = [replica.ppid() for replica in processes(REPLICA)]
        assert len(nodes) == len(set(nodes)) == 2
