"""The service and batches on a Ray cluster of two nodes on this machine, a painter a node.

They take some minutes: pytest -m cluster -n 0 tests/serve
"""

import base64
import io
import json
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.cli import main
from pleinair.runtime.model import catalog
from pleinair.serve.settings import Settings

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore:::ray"),  # what Ray says of its own fields
]

STEPS = 40
THREADS = ("--threads", "1")


@pytest.fixture
def nodes() -> Iterator[list[Any]]:
    """The second node of a cluster of two, of one CPU each; this process is on the first."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        yield [cluster, second]
    finally:
        ray.shutdown()
        cluster.shutdown()


def kill(nodes: list[Any]) -> None:
    """The second node's processes, at once."""
    cluster, second = nodes
    cluster.remove_node(second, allow_graceful=False)


def until(condition: Callable[[], object], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


# Batches.


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    line = {"prompt": "a red apple", "num_inference_steps": STEPS}
    path.write_text("\n".join([json.dumps(line)] * 40), encoding="utf-8")
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_batch_outlives_one_of_two_nodes(nodes: list[Any], file: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(["batch", str(file), "--outdir", str(one), *THREADS]) == 0

    def kill_in_the_middle() -> None:
        until(lambda: two.is_dir() and len(list(two.glob("*.png"))) >= 8)
        kill(nodes)

    killer = threading.Thread(target=kill_in_the_middle)
    killer.start()
    assert main(["batch", str(file), "--outdir", str(two), "--ray", *THREADS]) == 0
    killer.join()
    assert len(contents(two)) == 40
    assert contents(two) == contents(one)


def test_a_batch_goes_on_where_it_was_interrupted(
    nodes: list[Any], file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pleinair.serve import batch

    one, two = tmp_path / "one", tmp_path / "two"
    command = ["batch", str(file), "--outdir", str(two), "--ray", *THREADS]
    write, written = batch.write, []

    def stopped(*args: Any) -> Path:
        if len(written) == 5:
            raise KeyboardInterrupt
        written.append(write(*args))
        return written[-1]

    with monkeypatch.context() as patch:
        patch.setattr(batch, "write", stopped)
        assert main(command) == 130
    first = contents(two)
    assert len(first) == 5
    assert main(command) == 0
    assert main(["batch", str(file), "--outdir", str(one), *THREADS]) == 0
    assert contents(two) == contents(one)
    assert all(contents(two)[name] == data for name, data in first.items())


def test_a_line_that_kills_its_painters_is_left_out(
    nodes: list[Any], file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import ray

    from pleinair.serve.cluster import pool

    tries = ray.remote(num_cpus=0)(pool.Tries).remote()
    for _ in range(3):
        ray.get(tries.begun.remote("00001.png"))
    settings = Settings(threads=1)
    made = pool.Painter(settings, tries)({"line": _pickled(file)})
    assert made["error"] == "3 painters died over it"
    assert made["file"] == "00001.png"


def _pickled(file: Path) -> bytes:
    import pickle

    from pleinair.serve import lines

    return pickle.dumps(lines.read(file, 0).lines[0])


# The service.


@contextmanager
def serving(tmp_path: Path, **more: Any) -> Iterator[httpx.Client]:
    """The service with two replicas of one thread; a client of it."""
    from ray import serve

    from pleinair.serve.cluster.application import application

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    setup = Settings(
        **{
            "ray": True,
            "threads": 1,
            "min_replicas": 2,
            "replicas": 2,
            "port": port,
            "data": tmp_path / "data",
            "profile": "exact",
            **more,
        }
    )
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    serve.run(application(setup), name="pleinair")
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300) as client:
            until(lambda: client.get("/ready").status_code == 200)
            yield client
    finally:
        serve.shutdown()


def request(seed: int, **more: Any) -> dict[str, Any]:
    return {
        "prompt": "a red apple",
        "rng_seed": seed,
        "num_inference_steps": STEPS,
        "response_format": "b64_json",
        **more,
    }


def picture(answer: httpx.Response) -> bytes:
    assert answer.status_code == 200, answer.text
    (one,) = answer.json()["data"]
    with Image.open(io.BytesIO(base64.b64decode(one["b64_json"]))) as image:
        return image.tobytes()


def working(client: httpx.Client) -> float:
    """Pictures in work."""
    found = re.search(
        r'^pleinair_pictures\{state="(?:working|painting)"\} (\S+)$',
        client.get("/metrics").text,
        re.M,
    )
    assert found
    return float(found[1])


def test_every_request_is_answered_though_a_node_is_killed(
    nodes: list[Any], tmp_path: Path
) -> None:
    with serving(tmp_path) as client, ThreadPoolExecutor(16) as pool:
        answers = [
            pool.submit(client.post, "/v1/images/generations", json=request(seed))
            for seed in range(16)
        ]
        until(lambda: sum(answer.done() for answer in answers) >= 4)
        kill(nodes)
        painted = [picture(answer.result()) for answer in answers]
    pipe = StableDiffusionPipeline.from_pretrained(catalog.bundled(), profile="exact", threads=1)
    for seed, image in enumerate(painted):
        alone = pipe("a red apple", seed=seed, num_inference_steps=STEPS).images[0]
        assert image == alone.tobytes()


def test_streams_cancels_and_turns_away(nodes: list[Any], tmp_path: Path) -> None:
    with serving(tmp_path, max_queue=2) as client:
        streamed = request(3, stream=True, partial_images=2)
        with client.stream("POST", "/v1/images/generations", json=streamed) as answer:
            kinds = [line[7:] for line in answer.iter_lines() if line.startswith("event: ")]
        assert kinds.count("image_generation.partial_image") >= 1
        assert kinds[-1] == "image_generation.completed"

        # A client that goes away frees its replica within a step.
        long = request(1, num_inference_steps=150, width=256, height=256, stream=True)
        with client.stream("POST", "/v1/images/generations", json=long) as answer:
            assert answer.status_code == 200
            until(lambda: working(client) == 1)
        until(lambda: working(client) == 0, 20)
        begun = time.monotonic()
        picture(client.post("/v1/images/generations", json=request(5)))
        assert time.monotonic() - begun < 20

        # Two are painted, two wait, and the fifth comes later.
        with ThreadPoolExecutor(5) as pool:
            asked = []
            for seed in range(5):
                asked.append(
                    pool.submit(
                        client.post,
                        "/v1/images/generations",
                        json=request(seed, num_inference_steps=100),
                    )
                )
                time.sleep(0.3)
            codes = sorted(one.result().status_code for one in asked)
        assert codes == [200, 200, 200, 200, 429]


def test_drained_it_finishes_what_is_in_work(nodes: list[Any], tmp_path: Path) -> None:
    from ray import serve

    with serving(tmp_path) as client, ThreadPoolExecutor(2) as pool:
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


def test_a_request_goes_to_a_replica_that_has_its_model(nodes: list[Any], tmp_path: Path) -> None:
    """Each replica has compiled the first model when it is ready; the second is loaded once."""
    for name in ("first", "second"):
        shutil.copytree(catalog.bundled(), tmp_path / name)
    models = tuple(str(tmp_path / name) for name in ("first", "second"))
    with serving(tmp_path, model=models) as client:

        def loading() -> float:
            found = re.search(
                r'^pleinair_stage_seconds_(?:sum|total)\{stage="load"\} (\S+)$',
                client.get("/metrics").text,
                re.M,
            )
            assert found
            return float(found[1])

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


def test_preferred_are_replicas_with_the_model_then_those_with_fewest() -> None:
    from pleinair.serve.cluster.router import preference

    having: dict[str, set[str]] = {
        "full": {"b", "c", "d"},
        "new": set(),
        "ours": {"a", "b"},
        "other": {"b"},
    }
    order = sorted(having, key=lambda name: preference("a", having[name]))
    assert order == ["ours", "new", "other", "full"]
