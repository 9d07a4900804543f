"""The service on Ray under load, in a process of its own: a turn of `scale`."""

import contextlib
import itertools
import json
import socket
import statistics
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from pleinair.runtime.errors import EngineError

from .rounds import Record
from .worker import Watch

PROMPT = "a red apple"
_APPLICATION = "pleinair"
_PATIENCE = 600.0
"""Seconds that a picture may take."""
_TITLES = {
    f"ray::ServeReplica:{_APPLICATION}:replica": "replicas",
    f"ray::ServeReplica:{_APPLICATION}:ingress": "ingress",
    "ray::ProxyActor": "proxy",
}
"""What the command line of a process begins with -> who spends its CPU time."""
_CLIENTS, _RAY = "clients", "Ray itself"
GROUPS = (*_TITLES.values(), _CLIENTS, _RAY)
"""Who spends CPU time; the clients are this process."""
_FEWEST = 3
"""Pictures that a speed is told from."""


def serve(job: dict[str, Any], watch: Watch) -> Record:
    """The worker's way in: clients ask for twice what replicas paint at once.

    {"seconds" a picture of all together, "processor": CPU seconds a picture by GROUPS}.
    """
    import ray
    from ray import serve as ray_serve

    from pleinair.serve.cluster.application import application
    from pleinair.serve.settings import Settings

    count = job["count"]
    cores = count * job["threads"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    ray.init("local", num_cpus=cores, include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder:
        setup = Settings(
            ray=True,
            model=(job["model"],),
            threads=job["threads"],
            replicas=count,
            min_replicas=count,
            max_steps=job["steps"],
            data=Path(folder),
        )
        ray_serve.start(http_options={"host": "127.0.0.1", "port": port})
        ray_serve.run(application(setup), name=_APPLICATION)
        try:
            return _loaded({**job, "port": port})
        finally:
            ray_serve.shutdown()
            ray.shutdown()


def _loaded(job: dict[str, Any]) -> Record:
    """What `serve` gives, of the service as it is now."""
    clients = 2 * job["count"]
    ended, done = threading.Event(), list[float]()

    def client(number: int) -> None:
        for seed in itertools.count(number, clients):
            if ended.is_set():
                return
            _ask(job, seed)
            done.append(time.perf_counter())

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(lambda seed: _ask(job, seed), range(clients)))  # all are warm
        begun, before = time.perf_counter(), _processor()
        asking = [pool.submit(client, number) for number in range(clients)]
        wait(asking, job["seconds"], FIRST_EXCEPTION)
        seconds, after = time.perf_counter() - begun, _processor()
        ended.set()
    for one in asking:
        one.result()
    rate = per_second([moment for moment in done if moment < begun + seconds])
    spent = {group: (after[group] - before[group]) / seconds / rate for group in GROUPS}
    return {"seconds": 1 / rate, "processor": spent}


def per_second(done: Sequence[float]) -> float:
    """How many pictures a second were done at these moments.

    The slope: it does not matter that the first and the last picture are not seen as a whole, and
    that several replicas are done at once.
    """
    if len(done) < _FEWEST:
        raise EngineError(f"{len(done)} pictures were painted, too few; give more --seconds")
    return statistics.linear_regression(sorted(done), range(len(done))).slope


def _ask(job: dict[str, Any], seed: int) -> None:
    size = f"{job['size']}x{job['size']}" if job["size"] else "auto"
    asked = {"prompt": PROMPT, "rng_seed": seed, "num_inference_steps": job["steps"], "size": size}
    request = urllib.request.Request(
        f"http://127.0.0.1:{job['port']}/v1/images/generations",
        json.dumps(asked).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
        assert json.load(answer)["data"][0]["b64_json"]


def _processor() -> Counter[str]:
    """CPU seconds so far of this process and of all that it has started, by GROUPS."""
    import psutil  # comes with Ray

    here, spent = psutil.Process(), Counter[str]()
    for process in (here, *here.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # it has ended
            group = _CLIENTS if process == here else _group(process.cmdline())
            times = process.cpu_times()
            spent[group] += times.user + times.system
    return spent


def _group(command: Sequence[str]) -> str:
    title = command[0] if command else ""
    return next((who for begin, who in _TITLES.items() if title.startswith(begin)), _RAY)
