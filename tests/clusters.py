"""Ray clusters on this machine, the service on them, and their processes."""

import base64
import contextlib
import io
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
from PIL import Image

from pleinair.serve.settings import Settings

Found = TypeVar("Found")

STEPS = 40
INGRESS = "ray::ServeReplica:pleinair:ingress"
REPLICA = "ray::ServeReplica:pleinair:replica"
CONTROLLER = "ray::ServeController"


@dataclass(frozen=True)
class Nodes:
    """A cluster of two nodes; this process is on the first."""

    cluster: Any
    second: Any

    def kill_second(self) -> None:
        """Its processes, at once."""
        self.cluster.remove_node(self.second, allow_graceful=False)


@contextlib.contextmanager
def two_nodes(cpus: int = 1) -> Iterator[Nodes]:
    """Nodes of so many CPUs each."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus})
    second = cluster.add_node(num_cpus=cpus)
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        yield Nodes(cluster, second)
    finally:
        ray.shutdown()
        cluster.shutdown()


def processes(title: str, of: int | None = None) -> list[Any]:
    """The processes that call themselves so, of those that this one or another has started."""
    import psutil

    found = []
    for process in psutil.Process(of).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith(title):
                found.append(process)
    return found


def kill(title: str) -> None:
    """The one process that calls itself so, at once."""
    (process,) = processes(title)
    os.kill(process.pid, signal.SIGKILL)


def computing() -> bool:
    """Whether a replica paints, by the CPU time that it takes."""

    def seconds() -> float:
        return sum(replica.cpu_times().user for replica in processes(REPLICA))

    before = seconds()
    time.sleep(2)
    return seconds() - before > 0.5


def until(condition: Callable[[], Found | None], seconds: float = 300.0) -> Found:
    """What is waited for, as long as a busy machine may take to bring it about."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)
    return found


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def serving(data: Path, **more: Any) -> Iterator[httpx.Client]:
    """The service with two replicas of one thread; a client of it."""
    from ray import serve

    port = free_port()
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    try:
        deploy(data, **more)
        with client_of(port) as client:
            yield client
    finally:
        serve.shutdown()


def deploy(data: Path, **more: Any) -> None:
    """Have the service run, or a new version of it."""
    from ray import serve

    from pleinair.serve.cluster.application import application

    usual = {"ray": True, "threads": 1, "min_replicas": 2, "replicas": 2, "profile": "exact"}
    serve.run(application(Settings(**{**usual, "data": data, **more})), name="pleinair")


@contextlib.contextmanager
def client_of(port: int) -> Iterator[httpx.Client]:
    """A client of a server on this machine, once that is ready."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300) as client:
        until(lambda: answer(client, "/ready"))
        yield client


def answer(client: httpx.Client, path: str) -> httpx.Response | None:
    """What is found there; None while a server, or Ray's proxy, has just died."""
    with contextlib.suppress(httpx.TransportError):
        found = client.get(path)
        return found if found.status_code == 200 else None
    return None


@dataclass(frozen=True)
class Command:
    """A command in a process of its own, on a cluster of its own."""

    process: subprocess.Popen[bytes]
    log: Path

    def stopped(self, by: signal.Signals) -> str:
        """The last line of what it says, told to stop; it leaves nothing running behind it."""
        started = processes("", self.process.pid)
        self.process.send_signal(by)
        assert self.process.wait(300) == 0, self.log.read_text(encoding="utf-8")
        until(lambda: not any(map(_lives, started)))
        return self.log.read_text(encoding="utf-8").splitlines()[-1]

    def kill(self) -> None:
        """It ends at once, and its cluster with it, as when a machine does."""
        self.process.kill()
        self.process.wait()


def _lives(process: Any) -> bool:
    return process.is_running() and process.status() != "zombie"


@contextlib.contextmanager
def running(words: Sequence[str], log: Path) -> Iterator[Command]:
    """log: where what it says is written. It is killed behind the block, where it still runs."""
    environment = {**os.environ, "RAY_ADDRESS": "local"}
    with (
        log.open("wb") as file,
        subprocess.Popen(
            words, stdout=file, stderr=file, env=environment, preexec_fn=_hear_ctrl_c
        ) as process,
    ):
        try:
            yield Command(process, log)
        finally:
            process.kill()


def _hear_ctrl_c() -> None:
    """Also where the tests run in the background of a shell, which has it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


# Pictures that a client waits for.


def request(seed: int, **more: Any) -> dict[str, Any]:
    """A body for /v1/images/generations."""
    asked = {"prompt": "a red apple", "rng_seed": seed, "num_inference_steps": STEPS}
    return {**asked, "response_format": "b64_json", **more}


def picture(given: httpx.Response) -> bytes:
    """The pixels of an answer's one picture."""
    assert given.status_code == 200, given.text
    (one,) = given.json()["data"]
    with Image.open(io.BytesIO(base64.b64decode(one["b64_json"]))) as image:
        return image.tobytes()


def figure(client: httpx.Client, name: str) -> float:
    """One of /metrics, by its name and labels."""
    text = until(lambda: answer(client, "/metrics")).text
    line = re.search(rf"^{re.escape(name)} (\S+)$", text, re.M)
    assert line, name
    return float(line[1])


def working(client: httpx.Client) -> float:
    """Pictures in work."""
    return figure(client, 'pleinair_pictures{state="painting"}')


def waiting(client: httpx.Client) -> float:
    return figure(client, 'pleinair_pictures{state="waiting"}')


# Jobs that nobody waits for.


def submitted(client: httpx.Client, **more: Any) -> str:
    """The id of a job that was accepted."""
    asked = {"prompt": "a red apple", "num_inference_steps": STEPS, **more}
    given = client.post("/v1/jobs", json=asked)
    assert given.status_code == 202, given.text
    return str(given.json()["id"])


def job(client: httpx.Client, id: str) -> dict[str, Any]:
    """A job as it is, asked for again while there is no answer."""
    return dict(until(lambda: answer(client, f"/v1/jobs/{id}")).json())


def pixels(client: httpx.Client, id: str, index: int) -> bytes:
    """Of a job's picture."""
    file = client.get(f"/v1/jobs/{id}/pictures/{index}.png").content
    with Image.open(io.BytesIO(file)) as image:
        return image.tobytes()
