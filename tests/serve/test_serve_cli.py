"""`pleinair serve` as a process: one line for what is wrong, an end that loses nothing."""

import contextlib
import io
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.cli import main
from pleinair.serve.store import Store
from servers import is_up

JOB = {"prompt": "a red apple", "num_inference_steps": 20}


@dataclass(frozen=True)
class Running:
    """`pleinair serve` in a process of its own."""

    process: subprocess.Popen[str]
    url: str

    def job(self, **asked: Any) -> str:
        answer = httpx.post(f"{self.url}/v1/jobs", json={**JOB, **asked})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def state(self, job: str) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.url}/v1/jobs/{job}").json()
        return found


@contextlib.contextmanager
def running(data: Path, *words: str) -> Iterator[Running]:
    """A server that answers; killed behind the block where it is still there."""
    command = [sys.executable, "-m", "pleinair", "serve", "--port", "0", "--data", str(data)]
    with subprocess.Popen([*command, *words], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert line.startswith("http://127.0.0.1:"), line
            url = line.split(": opening")[0]
            end = time.monotonic() + 60
            while not is_up(url):
                assert time.monotonic() < end
                time.sleep(0.02)
            yield Running(process, url)
        finally:
            process.kill()


def last_line(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.read().splitlines()[-1]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM there")
def test_told_to_stop_it_ends_what_is_in_work(tmp_path: Path) -> None:
    """An answer that a client waits for still comes; what has not begun waits for the next start.

    The kept job's pictures come after the next start, the ones that were finished before among
    them; and so they do after a kill.
    """
    answers: list[httpx.Response] = []
    pipe = StableDiffusionPipeline.from_pretrained("models/pocket", profile="exact")
    with running(tmp_path, "--profile", "exact") as server:
        asked = {"prompt": "a rocket", "seed": 3, "num_inference_steps": 60}

        def wait() -> None:
            url = f"{server.url}/v1/images/generations"
            answers.append(httpx.post(url, json=asked, timeout=60))

        client = threading.Thread(target=wait)
        client.start()
        while not httpx.get(f"{server.url}/ready").json()["queue"] and not _painting(server):
            time.sleep(0.005)
        job = server.job(number=6, seed=10)
        server.process.send_signal(signal.SIGTERM)
        client.join(60)
        assert server.process.wait(60) == 0
        assert last_line(server.process) == "stopped"
    assert answers[0].status_code == 200
    with running(tmp_path, "--profile", "exact") as server:
        while not server.state(job)["pictures"]:
            time.sleep(0.01)
        server.process.kill()
        server.process.wait(60)
    store = Store(tmp_path)
    rows = store._rows("SELECT number, rowid FROM pictures WHERE job = ?", job)
    store.close()
    assert 0 < len(rows) < 6
    with running(tmp_path, "--profile", "exact") as server:
        while server.state(job)["state"] != "done":
            time.sleep(0.02)
        for index in (0, len(rows), 5):
            file = httpx.get(f"{server.url}/v1/jobs/{job}/pictures/{index}.png").content
            found = Image.open(io.BytesIO(file))
            expected = pipe(**JOB, seed=10 + index).images[0]
            assert np.array_equal(found, expected)
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(60) == 0
    store = Store(tmp_path)
    after = store._rows("SELECT number, rowid FROM pictures WHERE job = ?", job)
    store.close()
    assert [row for row in after if row in rows] == rows  # none was painted twice
    assert len(after) == 6


def _painting(server: Running) -> bool:
    figures = httpx.get(f"{server.url}/metrics").text
    return 'pleinair_pictures{state="painting"} 1.0' in figures


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["serve", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_port_in_use_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        line = refused(["--port", port], capsys)
    assert line.startswith(f"error: --host 127.0.0.1 --port {port}: cannot listen there: ")
    assert line.endswith("choose another")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--model", "nowhere"], "nowhere: no such model folder"),
        (["--host", "0.0.0.0"], "--host is 0.0.0.0, where others can reach the server"),
        (["--max-queue", "0"], "--max-queue is 0; give 1 to"),
        (["--loras", "nowhere"], "--loras is nowhere, which is no folder"),
        (["--api-key-file", "nowhere"], "nowhere"),
        (["--host", "no.such.host.invalid"], "--host is no.such.host.invalid, where others"),
    ],
)
def test_what_is_wrong_is_one_line(
    words: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = refused(["--port", "0", "--data", str(tmp_path), *words], capsys)
    assert found.startswith("error: ")
    assert line in found


def test_a_data_folder_in_use_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pleinair.serve.store._PATIENCE", 0.1)
    store = Store(tmp_path)
    assert "does another server use it" in refused(["--port", "0", "--data", str(tmp_path)], capsys)
    store.close()
