"""A checkpoint given as a model: converted once, found again by its content."""

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from pleinair.runtime.errors import BundleError, SourceError
from pleinair.runtime.hub import converted, pull


@pytest.fixture
def conversions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The converter's calls; it makes folders that hold an index alone."""
    calls: list[list[str]] = []

    def convert(source: str, target: Path, *options: str) -> int:
        calls.append([source, *options])
        target.mkdir(parents=True)
        (target / "model_index.json").write_text("{}")
        return 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLEINAIR_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(pull, "run_converter", convert)
    monkeypatch.setattr(pull, "require_converter", lambda name: None)
    return calls


def test_a_file_is_converted_once(
    conversions: list[list[str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "sd-v1-4.ckpt"
    file.write_bytes(b"weights")
    with caplog.at_level(logging.INFO, "pleinair"):
        folder = converted.folder_of(file)
        assert converted.folder_of("sd-v1-4.ckpt") == folder
    assert conversions == [[str(file), "--format", "openvino"]]
    assert folder.parent == tmp_path / "models"
    assert folder.name.startswith("sd-v1-4-")
    assert len(caplog.records) == 1
    assert "is a checkpoint; it is converted once" in caplog.records[0].message


def test_it_is_found_by_its_content_and_not_by_its_name(
    conversions: list[list[str]], tmp_path: Path
) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"first")
    first = converted.folder_of(file)
    moved = file.rename(tmp_path / "renamed.safetensors")
    assert converted.folder_of(moved) == first
    file.write_bytes(b"other")
    other = converted.folder_of(file)
    assert other != first
    file.with_suffix(".yaml").write_text("model: {}")  # read with it, so another conversion
    assert converted.folder_of(file) not in (first, other)
    config = tmp_path / "v2-inference.yaml"
    assert converted.folder_of(moved, config=config) == first  # which is not there
    config.write_text("model: {}")
    assert converted.folder_of(moved, config=config) != first
    assert conversions[-1][-2:] == ["--config", str(config)]
    assert converted.folder_of(moved, "onnx") != first
    assert len(conversions) == 5


def test_a_file_is_read_again_only_where_it_has_changed(
    conversions: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "model.ckpt"
    file.write_bytes(b"first")
    folder = converted.folder_of(file)
    kept = file.stat().st_mtime_ns
    file.write_bytes(b"tsrif")
    os.utime(file, ns=(kept, kept))  # as large and as old: it is not read
    assert converted.folder_of(file) == folder
    (tmp_path / "models" / "converted.json").write_text("[" * 100_000)
    assert converted.folder_of(file) != folder


def test_a_folder_of_diffusers_is_converted(conversions: list[list[str]], tmp_path: Path) -> None:
    folder = tmp_path / "sd"
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "X"}))
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"weights")
    made = converted.folder_of("sd")
    assert converted.folder_of(folder) == made
    assert len(conversions) == 1
    (folder / "unet" / "openvino_model.xml").write_text("<net/>")  # ready-made: opened as it is
    assert converted.folder_of("sd") == Path("sd")


def test_without_the_exporter_it_is_one_line_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "sd-v1-4.ckpt"
    file.write_bytes(b"weights")
    monkeypatch.setenv("PLEINAIR_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(pull.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SourceError, match=r"sd-v1-4\.ckpt .*torch is missing; install it"):
        converted.folder_of(file)


def test_what_the_converter_refuses_is_not_kept(
    conversions: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sd.ckpt").write_bytes(b"weights")
    monkeypatch.setattr(pull, "run_converter", lambda *arguments: 2)
    with pytest.raises(SourceError, match=r"not converted, as pleinair-export says above"):
        converted.folder_of("sd.ckpt")


@pytest.mark.parametrize(("name", "says"), [("no.ckpt", "no such file"), ("no", "no such model")])
def test_what_is_not_there(name: str, says: str, conversions: Any) -> None:
    with pytest.raises(BundleError, match=says):
        converted.folder_of(name)


def test_a_model_of_the_hub_s_cache(
    conversions: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its whole copy on this machine is enough; nothing is asked of a network."""
    copy = tmp_path / "snapshots" / "abc"
    copy.mkdir(parents=True)
    (copy / "model_index.json").write_text("{}")
    monkeypatch.setattr(pull, "cached", lambda name, revision: copy)
    assert converted.folder_of("owner/painter").name.startswith("painter-")
    assert conversions == [[str(copy), "--format", "openvino"]]
