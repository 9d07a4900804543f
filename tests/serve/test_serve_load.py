"""Two hundred clients for ten minutes, of which some go away: all are answered, nothing is left.

    pytest -m slow tests/serve/test_serve_load.py -n 0 -s

PLEINAIR_LOAD_MINUTES is another number of minutes.
"""

import asyncio
import base64
import io
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.engines import cores
from serving import POCKET

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

MINUTES = float(os.environ.get("PLEINAIR_LOAD_MINUTES", "10"))
CLIENTS = 200
SEEDS = range(8)
STEPS = 2
LEAVING = 0.15
"""Share of requests whose client goes away before the answer."""
GROWTH = 16 << 20
"""Bytes that the server may gain from the second quarter of the time to the last."""


class Server:
    """`pleinair serve` in a process of its own, with a key for each client."""

    def __init__(self, folder: Path, *words: str) -> None:
        keys = folder / "keys"
        keys.write_text("".join(f"key-{i}\n" for i in range(CLIENTS)))
        command = [sys.executable, "-m", "pleinair", "serve", "--port", "0"]
        options = ["--data", str(folder / "data"), "--api-key-file", str(keys), *words]
        exact = ["--profile", "exact"]
        self.log = (folder / "log").open("w")
        self.process = subprocess.Popen([*command, *options, *exact], stderr=self.log)
        self.url = self._url(folder / "log")
        while self._ready() != 200:
            time.sleep(0.1)

    def figures(self) -> dict[str, float]:
        """What /metrics says."""
        headers = {"Authorization": "Bearer key-0"}
        text = httpx.get(f"{self.url}/metrics", headers=headers).text
        found = re.findall(r"^(pleinair_\S+) (\S+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in found}

    def resident(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) << 10

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(120) == 0
        self.log.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)
        self.log.close()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()

    def _url(self, log: Path) -> str:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if found := re.findall(r"^(http://127.0.0.1:\d+): opening", log.read_text(), re.M):
                return str(found[-1])
            assert self.process.poll() is None, log.read_text()
            time.sleep(0.05)
        raise AssertionError("the server does not come up")

    def _ready(self) -> int:
        return httpx.get(f"{self.url}/ready").status_code


class Client:
    """One that asks again and again, by every API, and counts what becomes of it."""

    def __init__(self, number: int, url: str, expected: dict[int, Any], counts: Counter[str]):
        self.choose, self.counts, self.expected = random.Random(number), counts, expected
        headers = {"Authorization": f"Bearer key-{number}"}
        self.http = httpx.AsyncClient(base_url=url, headers=headers, timeout=600)

    async def run(self, until: float) -> None:
        kinds = (self.images, self.images, self.stream, self.job, self.webui)
        async with self.http:
            while time.monotonic() < until:
                self.counts["asked"] += 1
                self.counts[await self.outcome(self.choose.choice(kinds))] += 1

    async def outcome(self, kind: Callable[[int, int], Awaitable[str]]) -> str:
        """One request's: just one of answered, full, left, cancelled."""
        request = kind(self.choose.choice(SEEDS[:-2]), self.choose.randint(1, 2))
        if self.choose.random() >= LEAVING:
            return await request
        try:
            return await asyncio.wait_for(request, self.choose.expovariate(1 / 2))
        except asyncio.TimeoutError:
            return "left"

    async def images(self, seed: int, number: int) -> str:
        answer = await self.http.post("/v1/images/generations", json=self.asked(seed, n=number))
        if answer.status_code == 429:
            return await self.full(answer)
        assert answer.status_code == 200, answer.text
        files = [one["b64_json"] for one in answer.json()["data"]]
        self.check(seed, number, files)
        return "answered"

    async def stream(self, seed: int, number: int) -> str:
        asked = self.asked(seed, n=number, stream=True, partial_images=1)
        files = []
        async with self.http.stream("POST", "/v1/images/generations", json=asked) as answer:
            if answer.status_code == 429:
                return await self.full(answer)
            assert answer.status_code == 200
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    event = json.loads(line.removeprefix("data: "))
                    assert "error" not in event, event
                    if event["type"] == "image_generation.completed":
                        files.append(event["b64_json"])
        self.check(seed, number, files)
        return "answered"

    async def webui(self, seed: int, number: int) -> str:
        asked = {"prompt": "a red apple", "steps": STEPS, "n_iter": number, "seed": seed}
        size = {"width": 64, "height": 64, "sampler_name": "", "cfg_scale": None}
        answer = await self.http.post("/sdapi/v1/txt2img", json={**asked, **size})
        if answer.status_code == 429:
            return await self.full(answer)
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["images"]) == number
        return "answered"

    async def job(self, seed: int, number: int) -> str:
        asked = self.asked(seed, number=number)
        answer = await self.http.post("/v1/jobs", json=asked)
        if answer.status_code == 429:
            return await self.full(answer)
        assert answer.status_code == 202, answer.text
        id = answer.json()["id"]
        if self.choose.random() < 0.2:
            await asyncio.sleep(self.choose.random())
            state = (await self.http.delete(f"/v1/jobs/{id}")).json()["state"]
            assert state in ("cancelled", "done")
            return "cancelled"
        last = ""
        async with self.http.stream("GET", f"/v1/jobs/{id}/events") as events:
            async for line in events.aiter_lines():
                last = line if line.startswith("event:") else last
        assert last == "event: done", last
        files = [
            base64.b64encode((await self.http.get(f"/v1/jobs/{id}/pictures/{i}.png")).content)
            for i in range(number)
        ]
        self.check(seed, number, files)
        return "answered"

    async def full(self, answer: httpx.Response) -> str:
        """Refused: it says when to come again, and is not kept waiting here for so long."""
        assert float(answer.headers["retry-after"]) > 0
        await asyncio.sleep(self.choose.random())
        return "full"

    def asked(self, seed: int, **more: Any) -> dict[str, Any]:
        return {"prompt": "a red apple", "num_inference_steps": STEPS, "seed": seed, **more}

    def check(self, seed: int, number: int, files: list[Any]) -> None:
        """The pictures are those of the seeds, and none is missing."""
        assert len(files) == number
        for i, file in enumerate(files):
            found = np.asarray(Image.open(io.BytesIO(base64.b64decode(file))))
            assert np.array_equal(found, self.expected[seed + i]), "another picture"


@pytest.fixture(scope="module")
def expected() -> dict[int, Any]:
    threads = cores.physical_cores()  # the server's, in a process of its own
    pipe = StableDiffusionPipeline.from_pretrained(POCKET, profile="exact", threads=threads)
    called = {"num_inference_steps": STEPS}
    return {seed: np.asarray(pipe("a red apple", seed=seed, **called).images[0]) for seed in SEEDS}


def idle(server: Server) -> dict[str, float]:
    """The server's figures once nothing waits and nothing is in work."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        figures = server.figures()
        if not any(figures[f'pleinair_pictures{{state="{state}"}}'] for state in STATES):
            return figures
        time.sleep(0.2)
    raise AssertionError("a slot leaked")


STATES = ("waiting", "painting")


def test_two_hundred_clients(tmp_path: Path, expected: dict[int, Any]) -> None:
    with Server(tmp_path, "--max-queue", "180", "--keep", "100") as server:
        under_load(server, expected)
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log, log[-3000:]


def under_load(server: Server, expected: dict[int, Any]) -> None:
    counts: Counter[str] = Counter()
    readings: list[tuple[float, int]] = []

    async def load() -> None:
        begun = time.monotonic()
        until = begun + 60 * MINUTES

        async def watch() -> None:
            while time.monotonic() < until:
                readings.append((time.monotonic() - begun, server.resident()))
                await asyncio.sleep(1)

        clients = [Client(i, server.url, expected, counts) for i in range(CLIENTS)]
        await asyncio.gather(watch(), *(client.run(until) for client in clients))

    asyncio.run(load())
    figures = idle(server)
    quarters = [
        statistics.median(
            size for at, size in readings if n / 4 <= at / (60 * MINUTES) < (n + 1) / 4
        )
        for n in range(4)
    ]
    over = {state: figures[f'pleinair_jobs_total{{state="{state}"}}'] for state in ENDS}
    print(f"\n{dict(counts)}; jobs {over}; resident MB {[round(q / 1e6, 1) for q in quarters]}")
    assert counts["asked"] == sum(counts[one] for one in ("answered", "full", "left", "cancelled"))
    assert min(counts[one] for one in ("answered", "left", "cancelled")) > 0
    assert over["failed"] == 0
    assert over["done"] >= counts["answered"]
    assert quarters[3] - quarters[1] < GROWTH
    server.stop()


ENDS = ("done", "failed", "cancelled")


def test_a_server_killed_under_load_loses_no_job(tmp_path: Path, expected: dict[int, Any]) -> None:
    """Every job that was accepted is done after the restart, with the pictures of its seeds."""
    accepted: dict[str, tuple[int, int]] = {}
    with Server(tmp_path, "--max-queue", "180") as server:
        killed(server, accepted)
    assert len(accepted) > 50
    with Server(tmp_path, "--max-queue", "180") as server:
        idle(server)
        for id, (number, seed) in accepted.items():
            headers = {"Authorization": f"Bearer key-{number}"}
            job = httpx.get(f"{server.url}/v1/jobs/{id}", headers=headers).json()
            assert job["state"] == "done"
            for i in range(2):
                url = f"{server.url}/v1/jobs/{id}/pictures/{i}.png"
                file = io.BytesIO(httpx.get(url, headers=headers).content)
                assert np.array_equal(Image.open(file), expected[seed + i])
        server.stop()


def killed(server: Server, accepted: dict[str, tuple[int, int]]) -> None:
    """Fifty clients have jobs accepted until the server is killed."""

    async def ask(number: int) -> None:
        headers = {"Authorization": f"Bearer key-{number}"}
        async with httpx.AsyncClient(base_url=server.url, headers=headers) as http:
            while True:
                seed = number % 6
                asked = {"prompt": "a red apple", "num_inference_steps": STEPS, "seed": seed}
                answer = await http.post("/v1/jobs", json={**asked, "number": 2})
                if answer.status_code == 202:
                    accepted[answer.json()["id"]] = number, seed

    async def load() -> None:
        asking = [asyncio.create_task(ask(i)) for i in range(50)]
        await asyncio.sleep(10)
        server.kill()
        await asyncio.gather(*asking, return_exceptions=True)

    asyncio.run(load())
