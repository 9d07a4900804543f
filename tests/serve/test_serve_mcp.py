"""The MCP endpoint, by mcp's own client."""

import asyncio
import base64
import io
import subprocess
import sys
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from servers import Started, failing, slowly

MODES = ["auto", "legacy"]


def client_of(server: Started, mode: str) -> Any:
    from mcp import Client  # a second that every worker would take to find out what tests there are

    return Client(f"{server.base_url}/mcp", mode=mode)


def called(server: Started, arguments: dict[str, Any], mode: str = "auto", **more: Any) -> Any:
    async def call() -> Any:
        async with client_of(server, mode) as client:
            return await client.call_tool("paint", arguments, **more)

    return asyncio.run(call())


def test_a_server_that_nobody_asks_by_it_does_not_import_it() -> None:
    code = "import sys, pleinair.serve.app\nprint({'fastapi', 'mcp'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "{'fastapi'}\n"


@pytest.mark.parametrize("mode", MODES)
def test_there_is_one_tool(server: Started, mode: str) -> None:
    async def listed() -> Any:
        async with client_of(server, mode) as client:
            return await client.list_tools()

    (tool,) = asyncio.run(listed()).tools
    assert tool.name == "paint"
    assert tool.input_schema["required"] == ["prompt"]
    steps = tool.input_schema["properties"]["num_inference_steps"]
    assert "denoising steps" in steps["description"]
    assert "image" not in tool.input_schema["properties"]


def test_there_is_no_stream_that_nothing_comes_in(server: Started) -> None:
    for method in ("GET", "DELETE", "PUT"):
        answer = httpx.request(
            method, f"{server.base_url}/mcp", headers={"Accept": "text/event-stream"}, timeout=10
        )
        assert answer.status_code == 405
        assert answer.headers["Allow"] == "POST"


@pytest.mark.parametrize("mode", MODES)
def test_it_paints_the_library_s_picture(server: Started, library: Any, mode: str) -> None:
    result = called(server, {"prompt": "a red apple", "seed": 1}, mode)
    assert not result.is_error
    image, words = result.content
    assert image.mime_type == "image/png"
    found = Image.open(io.BytesIO(base64.b64decode(image.data)))
    expected = library("a red apple", seed=1).images[0]
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
    assert words.text == "64x64, seed 1"


def test_a_large_picture_fits_into_a_message(
    server: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pleinair.serve.api.paint_tool._ROOM", 2000)
    image, _ = called(server, {"prompt": "a red apple", "num_inference_steps": 2}).content
    assert image.mime_type == "image/jpeg"
    assert Image.open(io.BytesIO(base64.b64decode(image.data))).size == (64, 64)


def test_progress_is_told(server: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    slowly(monkeypatch, 0.02)
    told: list[float] = []

    async def heard(progress: float, total: float | None, message: str | None) -> None:
        told.append(progress)

    called(server, {"prompt": "a red apple", "num_inference_steps": 10}, progress_callback=heard)
    assert len(told) > 3
    assert told == sorted(told)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "a", "width": "wide"}, "width"),
        ({"prompt": "a", "width": 65}, "width"),
        ({"prompt": "a", "image": "/etc/passwd"}, "image"),
        ({"prompt": "a", "model": "another"}, "another"),
        ({"prompt": "a", "num_inference_steps": 100_000}, "steps"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_told_to_the_model(
    server: Started, arguments: dict[str, Any], said: str
) -> None:
    result = called(server, arguments)
    assert result.is_error
    assert said in result.content[0].text


def test_a_failure_is_told(server: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch)
    result = called(server, {"prompt": "a red apple"})
    assert result.is_error
    assert result.content[0].text == "out of paint"


@pytest.mark.parametrize("mode", MODES)
def test_a_client_that_goes_away_ends_its_picture(
    server: Started, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    slowly(monkeypatch, 0.1)
    cancelled = server.service.painted["cancelled"]

    async def leave() -> None:
        async with client_of(server, mode) as client:
            asked = {"prompt": "a red apple", "num_inference_steps": 100}
            painting = asyncio.create_task(client.call_tool("paint", asked))
            while not server.service.queue.working:
                await asyncio.sleep(0.01)
            painting.cancel()

    asyncio.run(leave())
    server.until_idle()
    assert server.service.painted["cancelled"] == cancelled + 1
