"""Setups that can be, callers that paint at once, and processes that share the threads out."""

import json
from pathlib import Path
from typing import Any

import pytest

from pleinair.bench import throughput
from pleinair.bench.__main__ import main, parser
from pleinair.runtime.model import catalog

MODEL = str(catalog.bundled())


def names(*words: str) -> list[str]:
    options = parser().parse_args(["throughput", MODEL, "--size", "64", *words])
    return [name for name, _ in throughput._turns(options)]


def test_setups_have_a_thread_for_each_stream() -> None:
    ways = ("--profiles", "exact", "balanced,vae=tiny")
    assert names("--threads", "1", "4", "--streams", "1", "2", *ways) == [
        "exact, 1 stream, 1 thread",
        "exact, 1 stream, 4 threads",
        "exact, 2 streams, 4 threads",
        "balanced,vae=tiny, 1 stream, 1 thread",
        "balanced,vae=tiny, 1 stream, 4 threads",
        "balanced,vae=tiny, 2 streams, 4 threads",
    ]


def test_processes_share_the_threads_out() -> None:
    words = ["--threads", "5", "--streams", "2", "--processes", "pleinair", "--scheduler", "ddim"]
    options = parser().parse_args(["throughput", MODEL, "--size", "64", *words])
    turns = dict(throughput._turns(options))
    assert list(turns) == ["native, 2 streams, 5 threads", "pleinair, 2 processes, 5 threads"]
    job = turns["pleinair, 2 processes, 5 threads"].job
    assert (job["processes"], job["threads"]) == (2, 2)


class Watch:
    def advance(self, share: float) -> None:
        assert 0 <= share <= 1


def test_rates_of_processes_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of 10 s a picture and one of 5 s: three pictures in ten seconds."""
    taken = iter([10.0, 5.0])

    def run_fresh(target: str, job: Any) -> Any:
        return {"picture": next(taken), "peak_memory": 100}

    monkeypatch.setattr(throughput, "run_fresh", run_fresh)
    found = throughput.side_by_side({"processes": 2}, Watch())  # type: ignore[arg-type]
    assert found["seconds"] == pytest.approx(10 / 3)
    assert found["latency"] == pytest.approx(7.5)
    assert found["memory"] == 200


def test_command(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "throughput.json"
    small = ["--size", "64", "--steps", "1", "--pictures", "1", "--rounds", "1"]
    setups = ["--threads", "2", "--streams", "1", "2"]
    command = ["throughput", MODEL, *small, *setups, "--json", str(file)]
    assert main(command) == 0
    records = json.loads(file.read_text(encoding="utf-8"))["records"]
    expected = ["exact, 1 stream, 2 threads", "exact, 2 streams, 2 threads"]
    assert [record["name"] for record in records] == expected
    out = capsys.readouterr().out
    assert "pictures an hour" in out
    assert f"{expected[0]}'s figure divided by the other's" in out


@pytest.mark.parametrize(
    "words", ["--streams 0", "--threads 0", "--pictures 0", "--threads 1 --streams 2"]
)
def test_setups_that_cannot_be(words: str) -> None:
    assert main(["throughput", MODEL, *words.split()]) == 2
