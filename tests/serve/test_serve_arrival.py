"""Requests that are sent slowly: given up in time, whatever part of them is slow."""

import importlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from gates import Gate
from pleinair.serve import arrival
from pleinair.serve.settings import Settings
from servers import Started, started
from serving import until

HEAD = "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {}\r\nContent-Length: 1000\r\n\r\n"
JSON, FORM = "application/json", "multipart/form-data; boundary=x"
MCP = "application/json\r\nAccept: application/json, text/event-stream"


@pytest.fixture(scope="module", params=["h11_impl.H11Protocol", "httptools_impl.HttpToolsProtocol"])
def hasty(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Started]:
    """A server that gives requests a second to arrive, by either of uvicorn's parsers.

    httptools is what uvicorn takes where it is installed.
    """
    module, _, name = request.param.partition(".")
    pytest.importorskip(module.partition("_")[0])
    protocol = getattr(importlib.import_module(f"uvicorn.protocols.http.{module}"), name)
    pocket = str(Path(__file__).parents[2] / "models" / "pocket")
    data = tmp_path_factory.mktemp("hasty")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrival, "AutoHTTPProtocol", protocol)
        with started(Settings(model=(pocket,), data=data, upload_timeout=1.0)) as one:
            yield one


def trickled(server: Started, begin: bytes, rest: bytes = b"") -> bytes:
    """What is answered to `begin`, and bytes one by one behind it, until the server hangs up."""
    url = httpx.URL(server.base_url)
    with socket.create_connection((url.host, url.port), timeout=300) as line:
        line.sendall(begin)
        over = threading.Event()

        def trickle() -> None:
            for byte in rest:
                if over.wait(0.05):
                    return
                try:
                    line.sendall(bytes([byte]))
                except OSError:  # it hung up
                    return

        sender = threading.Thread(target=trickle)
        sender.start()
        answer = b""
        try:
            while piece := line.recv(4096):
                answer += piece
        except ConnectionError:  # it hung up on what was still being sent
            pass
        over.set()
        sender.join()
    return answer


def test_a_head_that_does_not_arrive(hasty: Started) -> None:
    answer = trickled(hasty, b"POST /v1/jobs HT", b"TP/1.1\r\nHost: localhost\r\n" + b"x" * 2000)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b"x-should-retry: false" in head
    assert b"connection: close" in head.lower()
    assert json.loads(body)["error"]["message"] == "the request has not arrived within 1 seconds"


def test_a_connection_on_which_nothing_comes_is_closed_in_silence(hasty: Started) -> None:
    assert trickled(hasty, b"") == b""


BODIES = [
    ("/v1/images/generations", JSON),
    ("/v1/images/edits", FORM),
    ("/v1/images/edits", JSON),
    ("/v1/jobs", JSON),
    ("/sdapi/v1/txt2img", JSON),
    ("/mcp", MCP),
]


def test_a_body_that_does_not_arrive(hasty: Started) -> None:
    def asked(path: str, kind: str) -> bytes:
        first = b"--x\r\n" if kind == FORM else b'{"prompt": "'
        return trickled(hasty, HEAD.format(path, kind).encode() + first, b"a" * 900)

    with ThreadPoolExecutor(len(BODIES)) as pool:
        answers = list(pool.map(asked, *zip(*BODIES, strict=True)))
    for (path, _), answer in zip(BODIES, answers, strict=True):
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408"), (path, answer)
        assert b"x-should-retry: false" in head, path
        said = json.loads(body)
        message = said["detail"] if path.startswith("/sdapi") else said["error"]["message"]
        assert message == "the request has not arrived within 1 seconds"


def test_what_is_sent_on_after_the_answer(hasty: Started) -> None:
    begin = HEAD.format("/v1/nothing", JSON).encode()
    answer = trickled(hasty, begin, b"a" * 900)
    assert answer.startswith(b"HTTP/1.1 404")
    assert answer.count(b"HTTP/1.1") == 1


def test_a_picture_may_take_longer(hasty: Started, gate: Gate) -> None:
    """The bound is of what is sent, and of no answer; then the connection serves on."""
    answers: list[Any] = []

    def ask() -> None:
        with httpx.Client(base_url=hasty.base_url, timeout=300) as client:
            said = {"prompt": "a red apple", "num_inference_steps": 1}
            answers.append(client.post("/v1/images/generations", json=said))
            answers.append(client.get("/v1/models"))

    asking = threading.Thread(target=ask)
    asking.start()
    until(lambda: gate.begun, 300)
    time.sleep(1.5)
    assert not answers
    gate.open()
    asking.join(300)
    assert [answer.status_code for answer in answers] == [200, 200]
