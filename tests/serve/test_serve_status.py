"""Health, readiness and figures."""

import asyncio
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pleinair.runtime import __version__
from servers import Started


def figures(server: Started) -> dict[tuple[str, ...], float]:
    """What /metrics says, by name and labels."""
    text = httpx.get(f"{server.base_url}/metrics").text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_server_that_answers_is_alive(server: Started) -> None:
    answer = httpx.get(f"{server.base_url}/health")
    assert answer.json() == {"status": "ok", "version": __version__}


def test_a_warm_server_is_ready(server: Started) -> None:
    answer = httpx.get(f"{server.base_url}/ready")
    assert answer.status_code == 200
    assert answer.json()["ready"] is True


def test_a_server_that_stops_is_alive_and_not_ready(start: Any) -> None:
    with start() as server:
        assert figures(server)["pleinair_jobs_total", "done"] == 0  # no other server's are in it
        asyncio.run(server.service.close(0))
        assert httpx.get(f"{server.base_url}/health").status_code == 200
        answer = httpx.get(f"{server.base_url}/ready")
        assert answer.status_code == 503
        assert answer.json()["ready"] is False
        assert int(answer.headers["Retry-After"]) > 0
        for path, asked in (("images/generations", {"prompt": "a"}), ("jobs", {"prompt": "a"})):
            answer = httpx.post(f"{server.base_url}/v1/{path}", json=asked)
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "closing"
            assert int(answer.headers["Retry-After"]) > 0


def test_figures_count_what_was_painted(server: Started) -> None:
    server.until_idle()
    before = figures(server)
    asked = {"prompt": "a red apple", "num_inference_steps": 2}
    httpx.post(f"{server.base_url}/v1/images/generations", json=asked).raise_for_status()
    server.until_idle()
    after = figures(server)
    done = ("pleinair_jobs_total", "done")
    assert after[done] == before[done] + 1
    for stage in ("encode", "denoise", "decode"):
        seconds = ("pleinair_stage_seconds_total", stage)
        assert after[seconds] > before.get(seconds, 0)
    assert after["pleinair_pictures", "waiting"] == after["pleinair_pictures", "painting"] == 0


def test_resident_memory_is_told(server: Started) -> None:
    assert figures(server)[("process_resident_memory_bytes",)] > 50 << 20


def test_a_server_whose_workers_have_died_is_to_be_started_anew(
    server: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(server.service.workers), "alive", False)
    for path in ("/health", "/ready"):
        assert httpx.get(f"{server.base_url}{path}").status_code == 503
