"""Health, readiness and figures."""

import asyncio
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from servers import Started

from pleinair.runtime import __version__


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
        count, seconds = (f"pleinair_stage_seconds_{what}" for what in ("count", "sum"))
        assert after[count, stage] == before.get((count, stage), 0) + 1
        assert after[seconds, stage] > before.get((seconds, stage), 0)
    assert after[("pleinair_queue",)] == after[("pleinair_working",)] == 0


def test_resident_memory_is_told(server: Started) -> None:
    assert figures(server)[("process_resident_memory_bytes",)] > 50 << 20


def test_each_server_has_its_own_figures(start: Any, server: Started) -> None:
    with start() as other:
        assert figures(other)["pleinair_jobs_total", "done"] == 0
        assert figures(server)
