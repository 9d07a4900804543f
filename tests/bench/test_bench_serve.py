"""A queue under load beside a mutex: both are measured by the same clients."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from pleinair.bench import serve
from pleinair.bench.__main__ import main
from pleinair.runtime.model import catalog

MODEL = str(catalog.bundled())


def test_command(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "serve.json"
    small = ["--clients", "3", "--seconds", "1.5", "--steps", "1", "--rounds", "1"]
    assert main(["serve", MODEL, *small, "--threads", "1", "--json", str(file)]) == 0
    records = json.loads(file.read_text(encoding="utf-8"))["records"]
    assert [record["name"] for record in records] == ["pleinair serve", "a mutex"]
    assert all(record["hourly"] > 0 for record in records)
    waits = records[0]["waits"]  # behind a mutex some clients may not come to their turn at all
    assert 0 < waits["p50"] <= waits["p95"] <= waits["p99"]
    out = capsys.readouterr().out
    assert "painted for nobody" in out


@pytest.mark.parametrize("words", ["--clients 0", "--steps 0", "--leaving 1.5", "--seconds 0"])
def test_loads_that_cannot_be(words: str) -> None:
    assert main(["serve", MODEL, *words.split()]) == 2


class Watch:
    def advance(self, share: float) -> None:
        assert share <= 1


def test_a_mutex_paints_for_those_who_have_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of each kind, of which one notices who goes away."""
    monkeypatch.setattr(serve, "_GREEDY", 1)
    called = {"width": None, "height": None, "num_inference_steps": 4}
    job = {"model": MODEL, "clients": 6, "leaving": 0.5, "seconds": 2.5, "threads": 1}
    found = {
        way: asyncio.run(serve._load({**job, "called": called, "way": way}, Watch()))  # type: ignore[arg-type]
        for way in serve._WAYS
    }
    assert found["a mutex"]["wasted"] > found["pleinair serve"]["wasted"]
