"""What is said beforehand of replicas on one machine, and how it is measured."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from pleinair.bench import scale
from pleinair.bench.__main__ import main
from pleinair.bench.replicas import GROUPS, per_second
from pleinair.bench.scale import Needs, expected
from pleinair.runtime.errors import EngineError
from pleinair.runtime.model import catalog

MODEL = str(catalog.bundled())


def needs(seconds: float, *, handing: float = 0.0, beside: float = 0.0) -> Needs:
    return Needs(seconds=seconds, processor=seconds, handing=handing, beside=beside)


def test_replicas_with_cores_of_their_own_add_up() -> None:
    one = expected(1, 16, needs(2.0, beside=0.1))
    assert one == pytest.approx(0.5)
    assert expected(4, 16, needs(2.0, beside=0.1)) == pytest.approx(4 * one)


def test_handing_over_makes_each_picture_longer() -> None:
    assert expected(2, 16, needs(1.9, handing=0.1)) == pytest.approx(1.0)


def test_more_than_the_cores_share_them_with_what_is_beside() -> None:
    needed = needs(0.9, handing=0.05, beside=0.1)
    assert expected(2, 2, needed) == pytest.approx(2.0)
    assert expected(4, 2, needed) == expected(2, 2, needed)
    assert expected(2, 2, needs(0.9, handing=0.3, beside=0.1)) == pytest.approx(2 / 1.2)


def test_the_speed_of_replicas_that_are_done_at_once() -> None:
    """Four every 2 seconds, wherever the clock began and ended."""
    done = [2.0 * i + 0.001 * j for i in range(8) for j in range(4)]
    assert per_second(done) == pytest.approx(2.0, rel=0.01)
    assert per_second(done[::-1]) == per_second(done)
    with pytest.raises(EngineError, match=r"2 pictures .* give more --seconds"):
        per_second(done[:2])


def of_service(seconds: float, **spent: float) -> dict[str, Any]:
    return {"seconds": seconds, "processor": dict.fromkeys(GROUPS, 0.0) | spent}


def of_processes(seconds: float, each: float) -> dict[str, Any]:
    return {"seconds": seconds, "each": each, "processor": each}


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "physical_cores", lambda: 2)


@pytest.mark.usefixtures("two_cores")
def test_a_row_compares_what_is_measured_with_what_one_replica_says() -> None:
    options = argparse.Namespace(replicas=[4], threads=1)
    figures = {
        "1 without Ray": of_processes(1.0, 1.0),
        "2 without Ray": of_processes(0.55, 1.1),
        "1 on Ray": of_service(1.2, replicas=1.05, ingress=0.15, clients=0.1),
        "4 on Ray": of_service(0.8, replicas=1.2, ingress=0.14),
    }
    records = [{"name": name, "round": 1, **figure} for name, figure in figures.items()]
    one, four = scale._rows(options, records)
    assert [one[0], four[0]] == [1, 4]
    assert str(one[3]).startswith("1 ")  # by definition
    assert four[1].median == pytest.approx(3600 * 2 / (1.1 + 0.3))  # type: ignore[attr-defined]
    assert four[2].median == pytest.approx(3600 / 0.8)  # type: ignore[attr-defined]
    assert four[3].median == pytest.approx(0.875)  # type: ignore[attr-defined]
    assert "0.140" in four
    assert not list(scale._rows(options, records[:2])), "interrupted before the service"
    assert [row[0] for row in scale._rows(options, records[:3])] == [1]


@pytest.mark.usefixtures("two_cores")
def test_what_is_measured_without_ray() -> None:
    call = {"model": MODEL, "threads": 1, "steps": 1, "size": None, "seconds": 1.0}
    names = [name for name, _ in scale._turns(argparse.Namespace(**call, replicas=[2, 4]))]
    assert names == ["1 without Ray", "1 on Ray", "2 without Ray", "2 on Ray", "4 on Ray"]
    names = [name for name, _ in scale._turns(argparse.Namespace(**call, replicas=[4]))]
    assert names == ["1 without Ray", "1 on Ray", "2 without Ray", "4 on Ray"]


def test_processes_at_once() -> None:
    job = {"model": MODEL, "threads": 1, "steps": 1, "size": None, "seconds": 0.2, "count": 2}
    found = scale.side_by_side(job, None)  # type: ignore[arg-type]
    assert found["seconds"] < found["each"]
    assert found["processor"] > 0


@pytest.mark.parametrize("words", ["--replicas 0", "--steps 0", "--seconds 0", "--threads 0"])
def test_what_cannot_be_measured(words: str) -> None:
    assert main(["scale", MODEL, *words.split()]) == 2


@pytest.mark.cluster
def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "scale.json"
    small = ["--replicas", "1", "--seconds", "5", "--steps", "2", "--rounds", "1"]
    assert main(["scale", MODEL, *small, "--json", str(file)]) == 0
    records = json.loads(file.read_text(encoding="utf-8"))["records"]
    assert [record["name"] for record in records] == ["1 without Ray", "1 on Ray"]
    spent = records[1]["processor"]
    assert list(spent) == list(GROUPS)
    assert all(seconds > 0 for seconds in spent.values())
    assert spent["replicas"] > spent["ingress"]
    assert "| 1 |" in capsys.readouterr().out
