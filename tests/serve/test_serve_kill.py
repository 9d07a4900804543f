"""A server's process is killed in the middle: what was accepted is painted, nothing of it twice."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pleinair.runtime import StableDiffusionPipeline
from pleinair.serve.models import Models
from pleinair.serve.service import Service
from pleinair.serve.store import Store
from serving import POCKET

STEPS = 3
SERVER = """
import asyncio, sys
from pathlib import Path
from pleinair.serve.asked import Asked
from pleinair.serve.models import Models
from pleinair.serve.service import Service
from pleinair.serve.store import Store

async def main():
    service = Service(Models([sys.argv[1]], profile="exact"), store=Store(Path(sys.argv[2])))
    arguments = {"prompt": "a red apple", "num_inference_steps": int(sys.argv[3])}
    for i in range(3):
        asked = Asked(number=4, seed=100 * i, arguments=arguments)
        await service.submit(asked, f"client {i}", kept=True)
    print("accepted", flush=True)
    while True:
        await asyncio.sleep(0.01)
        print(service.stages["decode"] > 0, len(service.queue), flush=True)

asyncio.run(main())
"""


def killed(folder: Path) -> None:
    """A process that has accepted three jobs of four pictures, and is killed after some of them."""
    command = [sys.executable, "-c", SERVER, str(POCKET), str(folder), str(STEPS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "accepted\n"
        for line in child.stdout:
            painted, waiting = line.split()
            assert int(waiting) > 0, "it was too quick to be killed in the middle"
            if painted == "True" and int(waiting) < 9:
                break
        child.kill()


def test_a_killed_server_s_jobs_are_painted_after_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(tmp_path)
    pipe = StableDiffusionPipeline.from_pretrained(POCKET, profile="exact")

    async def restart() -> None:
        store = Store(tmp_path)
        there = {job.id: list(job.status.pictures) for job in store.unfinished()}
        before = sum(map(len, there.values()))
        assert 0 < before < 12
        painted, keep = 0, store.picture

        def counted(*picture: Any) -> Any:
            nonlocal painted
            painted += 1
            return keep(*picture)

        monkeypatch.setattr(store, "picture", counted)
        service = Service(Models([POCKET], profile="exact"), store=store)
        jobs = [service.job(id) for id in there]
        await asyncio.gather(*(job.finished() for job in jobs))
        for job in jobs:
            assert job.status.state == "done"
            for index in range(4):
                seed = job.asked.call(index)["seed"]
                picture = job.status.pictures[index]
                assert picture.seed == seed
                expected = pipe("a red apple", seed=seed, num_inference_steps=STEPS).images[0]
                assert np.array_equal(picture.image, expected)
        rows = store._rows("SELECT COUNT(*) AS number FROM pictures")
        assert rows[0]["number"] == 12
        assert painted == 12 - before  # none twice
        await service.close(0)

    asyncio.run(asyncio.wait_for(restart(), 120))
