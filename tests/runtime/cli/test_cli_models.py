"""`pleinair models`: what is on disk, broken or whole, and `--check`."""

import os
from pathlib import Path

import pytest

from fakes import model_folder, written
from pleinair.runtime.cli import main
from pleinair.runtime.model.manifest import describe


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models of the user's own, empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLEINAIR_MODELS", str(tmp_path / "mine"))
    (tmp_path / "mine").mkdir()
    return tmp_path / "mine"


def listed(folder: Path) -> Path:
    """A model whose manifest lists its files."""
    made = model_folder(folder)
    files = {
        file.relative_to(made).as_posix(): describe(file)
        for file in made.rglob("*")
        if file.is_file()
    }
    written(made / "pleinair.json", {"files": files})
    return made


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_broken_folders_are_named_and_the_others_listed(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model_folder(models / "good")
    written(model_folder(models / "other-kind") / "model_index.json", {"_class_name": "Kandinsky"})
    (model_folder(models / "damaged") / "model_index.json").write_text("{")
    (model_folder(models / "dangling") / "unet" / "note").symlink_to("nowhere")
    (models / "looped").mkdir()
    (models / "looped" / "model_index.json").symlink_to("model_index.json")
    (models / "circle").symlink_to("circle")
    (models / "file").write_text("")
    assert main(["models"]) == 0
    shown = capsys.readouterr().out
    assert f"good: converted here\n    on disk: {models / 'good'} (openvino)" in shown
    assert f"dangling: converted here\n    on disk: {models / 'dangling'} (openvino)" in shown
    for name in ("other-kind", "damaged", "looped"):
        assert f"{name}: converted here\n    on disk, but cannot be used: {models / name}" in shown
    assert "circle:" not in shown


def test_whole(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = listed(models / "tree")
    assert main(["models", "--check", "tree"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{folder}: whole: ")
    assert said.endswith(" files are as exported\n")
    written(folder / "scheduler" / "scheduler_config.json", {"_class_name": "DDIMScheduler"})
    assert main(["models", "--check", str(folder)]) == 0
    assert "; edited: scheduler/scheduler_config.json" in capsys.readouterr().out


def test_one_damaged_bit(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = model_folder(models / "tree")
    weights = folder / "unet" / "openvino_model.bin"
    content = bytearray(5 << 20)
    weights.write_bytes(content)
    written(folder / "pleinair.json", {"files": {"unet/openvino_model.bin": describe(weights)}})
    content[-1] ^= 1
    weights.write_bytes(content)
    model_folder(models / "other")
    assert main(["models", "--check", "other", "tree"]) == 2
    shown = capsys.readouterr()
    assert shown.err == (
        f"error: {weights}: its content is not what was exported; copy or convert it anew\n"
    )
    assert "other: its parts fit each other; what was in its files is not known" in shown.out


def test_all_of_them(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed(models / "tree")
    assert main(["models", "--check"]) == 0
    shown = capsys.readouterr().out
    assert f"{models / 'tree'}: whole" in shown
    assert "pocket: whole" in shown


def test_what_is_not_there(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--check", "nothing"]) == 2
    assert "nothing: no such model folder" in capsys.readouterr().err
