"""`speed` from the command line: combinations, in turn, whole results, and what goes wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pleinair.bench import configuration, report, turns
from pleinair.bench.__main__ import main
from pleinair.runtime.errors import EngineError

SMALL = ["--sizes", "32", "--steps", "2", "--rounds", "1", "--warm-up", "0", "--threads", "1"]
SMALL += ["--scheduler", "ddim", "--devices", "cpu"]


def _command(model: Path, *more: str) -> list[str]:
    return ["speed", str(model), *SMALL, *more]


def _painted(seconds: float, evaluations: int = 2) -> dict[str, Any]:
    picture = {"load": 1.0, "encode": 0.5, "steps": [seconds] * 2, "decode": 0.25}
    picture["total"] = 1.75 + 2 * seconds
    graph = {"part": "unet", "key": "sample 2x4x4x4", "seconds": [seconds] * evaluations}
    memory = {"open": 1_000_000_000, "denoise": 2_000_000_000}
    return {"ready": 1.0, "pictures": [picture], "graphs": [graph], "memory": memory} | {
        "peak_memory": 3_000_000_000,
        "process": 9.0,
    }


class Stub:
    """Stands in for fresh processes: notes what is asked for, and answers as told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **painted: Any) -> None:
        self.asked: list[str] = []
        self.painted = painted
        for module in (turns, report):
            monkeypatch.setattr(module, "run_fresh", self)

    def __call__(self, target: str, job: dict[str, Any], *_: Any) -> dict[str, Any]:
        kind = target.rpartition(":")[2]
        if kind == "measure":
            self.asked.append(f"peak {job['engine']} {'int8' if job['int8'] else job['precision']}")
            return {"flops": 400e9 if job["int8"] else 100e9}
        self.asked.append(f"{kind} {job['engine']} {job['way']}")
        if kind == "tally":
            flops = {"total": 50_000_000_000, "int8": 0, "attention": 0}
            return {"graphs": [{"part": "unet", "key": "sample 2x4x4x4", "flops": flops}]}
        answer = self.painted.get(job["way"], _painted(2.0))
        if isinstance(answer, BaseException):
            raise answer
        return answer


def test_one_configuration_for_real(exported_openvino: Path, tmp_path: Path) -> None:
    """Nothing stubbed but the size of the peaks' matrices."""
    files = {name: tmp_path / f"speed.{name}" for name in ("json", "md", "png")}
    command = _command(
        exported_openvino, "--engines", "openvino", "--profiles", "exact", "balanced"
    )
    command += ["--json", str(files["json"]), "--markdown", str(files["md"])]
    command += ["--chart", str(files["png"])]
    real = turns.run_fresh

    def smaller(target: str, job: dict[str, Any], *more: Any) -> dict[str, Any]:
        return real(target, job | {"side": 64} if target.endswith(":measure") else job, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turns, "run_fresh", smaller)
        assert main(command) == 0
    found = json.loads(files["json"].read_text(encoding="utf-8"))
    assert [record["name"] for record in found["records"]] == ["openvino, exact"]
    assert len(found["records"][0]["pictures"][0]["steps"]) == 2
    assert found["records"][0]["memory"]["denoise"] > 50_000_000
    rows = {row["part"]: row for row in found["roofline"]}
    assert rows["unet"]["evaluations"] == 2
    assert min(row["flops"] for row in rows.values()) > 0
    assert rows["unet"]["share"]["median"] > 0
    assert {peak["name"] for peak in found["peaks"]} == {
        "openvino, cpu, f32",
        "openvino, cpu, int8",
    }
    assert list(found["skipped"]) == ["openvino, balanced"]  # this folder has no graphs of 8 bits
    tables = files["md"].read_text(encoding="utf-8")
    assert "openvino, balanced: skipped: failed in round 1: " in tables
    assert "| openvino, exact | unet | 2 |" in tables
    with Image.open(files["png"]) as chart:
        assert chart.format == "PNG"


def test_everything_takes_turns(
    exported_openvino: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stub = Stub(monkeypatch, fast=_painted(0.5), exact=_painted(1.0))
    more = ["--engines", "openvino", "--profiles", "exact", "fast", "--rounds", "2"]
    more += ["--precisions", "f32"]
    assert main(_command(exported_openvino, *more)) == 0
    turn = ["peak openvino f32", "peak openvino int8"]
    turn += ["paint openvino exact", "paint openvino fast"]
    assert stub.asked == ["tally openvino exact", "tally openvino fast", *turn, *turn]
    shown = capsys.readouterr().out
    column = 1 + list(report.MEASURES).index("s a step, mean")
    lines = [line.split(" | ") for line in shown.splitlines() if "openvino, fast |" in line]
    assert lines[0][column] == "0.5 (0.5 to 0.5)"
    assert lines[1][column] == "2 (2 to 2)"  # exact's figure over its own
    # 50 GFLOP in half a second, where the peak is 100 a second.
    assert lines[2][-2:] == ["100 (100 to 100)", "100 % (100 to 100) |"]


def test_axes_are_combined_and_named_by_what_varies(
    exported_openvino: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = Stub(monkeypatch)
    file = exported_openvino.parent / "axes.json"
    more = ["--profiles", "exact", "--sizes", "32", "64x32", "--guidance", "1", "7.5"]
    more += ["--precisions", "f32", "bf16", "--json", str(file)]
    try:
        assert main(_command(exported_openvino, *more)) == 0
        found = json.loads(file.read_text(encoding="utf-8"))["configurations"]
    finally:
        file.unlink(missing_ok=True)
    assert list(found)[:2] == [
        "openvino, f32, exact, 32x32, guidance 1",
        "openvino, f32, exact, 32x32, guidance 7.5",
    ]
    assert len(found) == 8 + 4  # ONNX Runtime has one precision, that of the graph
    assert sum(asked.startswith("tally") for asked in stub.asked) == 4  # the same for all engines


def test_a_device_that_an_engine_finds_is_one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    assert configuration.present("onnxruntime") == ["cpu", "cuda"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers[1:])
    assert configuration.present("onnxruntime") == ["cpu"]
    assert configuration.present("openvino")[0] == "cpu"


def test_one_that_fails_is_named_and_the_others_go_on(
    exported_openvino: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stub = Stub(monkeypatch, balanced=EngineError("holds no unet_int8; make it with: x"))
    more = ["--engines", "openvino", "--rounds", "2"]
    assert main(_command(exported_openvino, *more)) == 0
    assert stub.asked.count("paint openvino balanced") == 1
    assert stub.asked.count("paint openvino fast") == 2
    shown = capsys.readouterr().out
    assert "openvino, balanced: skipped: failed in round 1: holds no unet_int8" in shown


def test_nothing_painted_is_an_error(
    exported_openvino: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Stub(monkeypatch, exact=EngineError("no memory"))
    assert main(_command(exported_openvino, "--engines", "openvino", "--profiles", "exact")) == 2
    assert "nothing could be measured: openvino, exact: failed" in capsys.readouterr().err


def test_interrupted_it_shows_what_it_has(
    exported_openvino: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Stub(monkeypatch, balanced=KeyboardInterrupt())
    files = [tmp_path / "speed.json", tmp_path / "speed.png"]
    more = ["--engines", "openvino", "--json", str(files[0]), "--chart", str(files[1])]
    assert main(_command(exported_openvino, *more)) == 130
    found = json.loads(files[0].read_text(encoding="utf-8"))
    names = [record["name"] for record in found["records"]]
    assert names == ["openvino, exact", "openvino, native"]
    assert files[1].is_file()


def test_interrupted_before_anything_is_measured(
    exported_openvino: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Stub(monkeypatch, exact=KeyboardInterrupt())
    assert main(_command(exported_openvino, "--profiles", "exact")) == 130


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--sizes", "30"], "multiple of 8"),
        (["--sizes", "32x32x32"], "invalid _size value"),
        (["--steps", "0"], "num_inference_steps is 0"),
        (["--batch", "0"], "batch is 0"),
        (["--rounds", "0"], "rounds is 0"),
        (["--repeats", "0"], "repeats is 0"),
        (["--warm-up", "-1"], "warm_up is -1"),
        (["--profiles", "exact,stepz=3"], "is no setting"),
        (["--engines", "tensorrt"], "invalid choice"),
        (["--chart", "EXISTING"], "exists"),
        (["--chart", "speed.xyz"], "xyz"),
    ],
)
def test_a_mistake_is_one_line(
    more: list[str],
    words: str,
    exported_openvino: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stub = Stub(monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.png").write_bytes(b"mine")
    more = [str(tmp_path / "old.png") if word == "EXISTING" else word for word in more]
    try:
        code = main(_command(exported_openvino, *more))
    except SystemExit as exit:  # argparse's own way out
        code = exit.code
    assert code == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert words in said[0]
    assert stub.asked == []
    assert (tmp_path / "old.png").read_bytes() == b"mine"


def test_an_unknown_model_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["speed", "no/such/model"]) == 2
    assert "no such model folder" in capsys.readouterr().err
