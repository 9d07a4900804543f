"""The comparison from the command line, and what becomes of it when something goes wrong."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pleinair.bench import peers, turns
from pleinair.bench.__main__ import main
from pleinair.runtime.errors import EngineError


def _command(model: Path, *more: str) -> list[str]:
    small = ["--size", "64", "--steps", "3", "--scheduler", "ddim", "--prompt", "a red apple"]
    return ["peers", str(model), *small, *more]


def _picture(seconds: float) -> dict[str, Any]:
    times = {"ready": 1.0, "encode": 0.1, "steps": [9.0, seconds, seconds], "decode": 0.2}
    return times | {"picture": 3 * seconds, "process": 10.0, "peak_memory": 2_000_000_000}


def test_pleinair_beside_genai(exported_openvino: Path, tmp_path: Path) -> None:
    wanted = ["--systems", "pleinair", "openvino_genai", "pleinair-onnx", "--rounds", "1"]
    files = ["--json", str(tmp_path / "peers.json"), "--markdown", str(tmp_path / "peers.md")]
    files += ["--chart", str(tmp_path / "peers.png")]
    assert main(_command(exported_openvino, *wanted, *files)) == 0
    measured = json.loads((tmp_path / "peers.json").read_text(encoding="utf-8"))
    assert [record["name"] for record in measured["records"]] == ["pleinair", "openvino_genai"]
    for record in measured["records"]:
        assert len(record["steps"]) == 3
        assert record["process"] > record["ready"] + record["picture"]
        assert record["peak_memory"] is None or record["peak_memory"] > 50_000_000
    assert measured["skipped"] == {"pleinair_onnx": "the folder has no ONNX graphs"}
    assert measured["job"]["scheduler"] == "ddim"
    assert measured["machine"]["libraries"]["openvino-genai"]
    tables = (tmp_path / "peers.md").read_text(encoding="utf-8")
    assert tables.count("| pleinair |") == 2  # figures and ratios
    assert Image.open(tmp_path / "peers.png").height > 300  # two panels, two bars and one
    assert "pleinair_onnx: skipped: the folder has no ONNX graphs" in tables


def test_systems_take_turns_and_the_first_step_does_not_count(
    exported_openvino: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    order: list[str] = []

    def paint(target: str, job: dict[str, Any], *_: Any) -> dict[str, Any]:
        order.append(job["system"])
        return _picture(4.0 if job["system"] == "openvino_genai" else 2.0)

    monkeypatch.setattr(turns, "run_fresh", paint)
    assert main(_command(exported_openvino, "--systems", "pleinair", "openvino_genai")) == 0
    assert order == ["pleinair", "openvino_genai"] * 2
    figures, ratios = [
        line.split(" | ") for line in capsys.readouterr().out.splitlines() if "| pleinair |" in line
    ]
    column = 1 + list(peers.MEASURES).index("s a step, median")
    assert figures[column] == "2 (2 to 2)"
    assert ratios[column] == "2 (2 to 2)"


def test_a_system_that_fails_is_dropped_and_the_others_go_on(
    exported_openvino: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    order: list[str] = []

    def paint(target: str, job: dict[str, Any], *_: Any) -> dict[str, Any]:
        order.append(job["system"])
        if job["system"] == "openvino_genai":
            raise EngineError("out of memory")
        return _picture(2.0)

    monkeypatch.setattr(turns, "run_fresh", paint)
    assert main(_command(exported_openvino, "--systems", "pleinair", "openvino_genai")) == 0
    assert order == ["pleinair", "openvino_genai", "pleinair"]
    assert "openvino_genai: skipped: failed in round 1: out of memory" in capsys.readouterr().out


def test_interrupted_it_prints_what_it_has(
    exported_openvino: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def paint(target: str, job: dict[str, Any], *_: Any) -> dict[str, Any]:
        if job["system"] == "openvino_genai":
            raise KeyboardInterrupt
        return _picture(2.0)

    monkeypatch.setattr(turns, "run_fresh", paint)
    assert main(_command(exported_openvino, "--systems", "pleinair", "openvino_genai")) == 130
    assert "| pleinair | 1 (1 to 1) |" in capsys.readouterr().out


def test_ways_of_ours_are_systems_of_their_own(
    exported_openvino: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs: dict[str, dict[str, Any]] = {}

    def paint(target: str, job: dict[str, Any], *_: Any) -> dict[str, Any]:
        jobs[job["way"]] = job
        return _picture(2.0)

    monkeypatch.setattr(turns, "run_fresh", paint)
    wanted = ["--systems", "pleinair", "pleinair:balanced,vae=tiny", "pleinair-onnx:fast"]
    assert main(_command(exported_openvino, *wanted)) == 0
    assert list(jobs) == ["", "balanced,vae=tiny"]
    assert {job["system"] for job in jobs.values()} == {"pleinair"}
    shown = capsys.readouterr().out
    assert "| pleinair:balanced,vae=tiny | 1 (1 to 1) |" in shown
    assert "pleinair_onnx:fast: skipped: the folder has no ONNX graphs" in shown


def test_settings_of_others_are_systems_of_their_own(
    exported_openvino: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: dict[str, dict[str, Any]] = {}

    def paint(target: str, job: dict[str, Any], *_: Any) -> dict[str, Any]:
        jobs[job["way"]] = job
        return _picture(2.0)

    monkeypatch.setattr(turns, "run_fresh", paint)
    other = shutil.copytree(exported_openvino, tmp_path / "other")
    wanted = ["openvino_genai", "openvino_genai:precision=f32", f"openvino_genai:model={other}"]
    assert main(_command(exported_openvino, "--systems", *wanted)) == 0
    models = [job["model"] for job in jobs.values()]
    assert models == [str(exported_openvino), str(exported_openvino), str(other)]
    assert main(_command(exported_openvino, "--systems", "openvino_genai:fast")) == 2


def test_any_system_can_be_what_the_others_are_compared_with(
    exported_openvino: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def paint(target: str, job: dict[str, Any], *_: Any) -> dict[str, Any]:
        return _picture(1.0 if job["way"] == "fast" else 5.0)

    monkeypatch.setattr(turns, "run_fresh", paint)
    wanted = ["--systems", "pleinair", "pleinair:fast", "--baseline", "pleinair"]
    assert main(_command(exported_openvino, *wanted)) == 0
    shown = capsys.readouterr().out
    assert "pleinair's figure divided by the other's" in shown
    ratios = [line for line in shown.splitlines() if line.startswith("| pleinair:fast | ")][1]
    assert ratios.split(" | ")[1 + list(peers.MEASURES).index("s a step, median")] == "5 (5 to 5)"


def test_a_way_reaches_the_picture(exported_openvino: Path, tmp_path: Path) -> None:
    """Three steps are asked for; the way takes two, in a process of its own."""
    file = tmp_path / "peers.json"
    wanted = ["--systems", "pleinair:num_inference_steps=2", "--rounds", "1", "--json", str(file)]
    assert main(_command(exported_openvino, *wanted)) == 0
    [record] = json.loads(file.read_text(encoding="utf-8"))["records"]
    assert record["name"] == "pleinair:num_inference_steps=2"
    assert len(record["steps"]) == 2


def test_a_system_is_asked_and_run_in_its_own_environment(
    exported_openvino: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[tuple[str, str, str | None]] = []
    elsewhere = tmp_path / "python"
    elsewhere.touch()

    def fresh(target: str, job: dict[str, Any], *more: Any, python: Any = None) -> dict[str, Any]:
        used = python or (more[1] if len(more) > 1 else None)
        asked.append((target.rpartition(":")[2], job["system"], used))
        if target.endswith(":unable"):
            return {"reason": "too old" if job["system"] == "optimum_onnx" else None}
        return _picture(2.0) | {"libraries": {"optimum-intel": "1.27.0"}}

    for module in (peers, turns):
        monkeypatch.setattr(module, "run_fresh", fresh)
    wanted = ["--systems", "pleinair", "optimum-intel", "optimum-onnx", "--rounds", "1"]
    wanted += ["--environment", f"optimum={elsewhere}", f"optimum_onnx={elsewhere}"]
    assert main(_command(exported_openvino, *wanted)) == 0
    assert asked == [
        ("unable", "optimum_intel", str(elsewhere)),
        ("unable", "optimum_onnx", str(elsewhere)),
        ("paint", "pleinair", None),
        ("paint", "optimum_intel", str(elsewhere)),
    ]
    shown = capsys.readouterr().out
    assert "optimum_onnx: skipped: too old" in shown
    assert "optimum_intel in an environment of its own: optimum-intel 1.27.0" in shown


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--size", "63"], "give a multiple of 8"),
        (["--steps", "0"], "num_inference_steps is 0"),
        (["--rounds", "0"], "rounds is 0"),
        (["--threads", "0"], "threads is 0"),
        (["--systems", "pleinair_onnx"], "nothing could be measured: pleinair_onnx"),
        (["--systems", "midjourney"], "invalid choice"),
        (["--systems", "diffusers:fast"], "has no setting fast"),
        (["--systems", "pleinair:stepz=3"], "is no setting"),
        (["--environment", "moon=/bin/sh"], "no environment 'moon'"),
        (["--environment", "optimum=/no/such/python"], "give NAME=PYTHON"),
        (["--json", "EXISTING"], "exists"),
    ],
)
def test_a_mistake_is_one_line(
    more: list[str],
    words: str,
    exported_openvino: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "old.json").write_text("{}", encoding="utf-8")
    more = [str(tmp_path / "old.json") if word == "EXISTING" else word for word in more]
    try:
        code = main(_command(exported_openvino, *more))
    except SystemExit as exit:  # argparse's own way out
        code = exit.code
    assert code == 2
    said = [line for line in capsys.readouterr().err.splitlines() if "pleinair.bench" in line]
    assert len(said) == 1
    assert words in said[0]
    assert (tmp_path / "old.json").read_text(encoding="utf-8") == "{}"
