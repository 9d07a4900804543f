"""The memory of an export is told stage by stage."""

import json
from pathlib import Path

import pytest

from pleinair.bench import memory
from pleinair.bench.__main__ import main

pytestmark = pytest.mark.skipif(memory.resident() is None, reason="needs psutil here")


def test_stages_of_an_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def export(source: Path, folder: Path, formats: list[str], on_progress: object) -> None:
        assert callable(on_progress)
        assert (source.name, folder.name, formats) == ("checkpoint", "model", ["onnx"])
        on_progress("loading unet", 0.0)
        held = bytearray(b"x" * 60_000_000)
        on_progress("tracing unet for onnx", 0.5)
        del held

    monkeypatch.setattr("pleinair.export.export_model", export)
    file = tmp_path / "making.json"
    arguments = [str(tmp_path / "checkpoint"), str(tmp_path / "model"), "--formats", "onnx"]
    assert main(["making", *arguments, "--json", str(file)]) == 0
    found = json.loads(file.read_text(encoding="utf-8"))
    assert list(found["stages"]) == ["start", "loading unet", "tracing unet for onnx"]
    assert found["stages"]["loading unet"] > found["stages"]["start"] + 50_000_000
    assert found["peak"] >= found["stages"]["loading unet"]


def test_without_a_folder_the_model_is_quantized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, object] = {}
    monkeypatch.setattr(
        "pleinair.export.quantize_model",
        lambda folder, formats, parts, **more: asked.update(folder=folder, parts=parts, **more),
    )
    assert main(["making", str(tmp_path), "--parts", "unet", "--samples", "2"]) == 0
    assert (asked["folder"], asked["parts"], asked["samples"]) == (tmp_path, ["unet"], 2)
    assert "GB resident at the peak" in capsys.readouterr().out
