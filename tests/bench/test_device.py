"""The script for a GPU at hand for minutes: packed whole, unpacked as packed, within its time."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pleinair.bench.__main__ import main
from pleinair.bench.device import prepare, report, run, session, training, wheels
from pleinair.bench.process import run_fresh
from pleinair.runtime.errors import EngineError

HERE = "{}.{}".format(*sys.version_info)


def test_wheels_are_what_an_export_and_a_picture_need() -> None:
    names = wheels.names("3.12")
    assert {"numpy", "openvino", "msgspec", "diffusers", "transformers", "openai-clip"} <= set(
        names
    )
    assert {"huggingface-hub", "protobuf", "pip", "setuptools"} <= set(names)  # what those need
    assert not {"torch", "onnxruntime", "torchvision", "pleinair", "sympy"} & set(names)
    assert not {"tomli", "huggingface_hub"} & set(names)
    assert names["numpy"] == np.__version__


@pytest.fixture
def pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The command's output, without a registry: one file stands for the wheels."""
    work = tmp_path / "work"
    work.mkdir()
    random = np.random.default_rng(0).integers(0, 255, (40, 40, 40), np.uint8)
    np.savez(work / prepare.ICONS, subjects=random)

    def download(folder: Path, python: str) -> list[str]:
        (folder / "one-1.0-py3-none-any.whl").write_bytes(b"wheel" * 400_000)
        return []

    monkeypatch.setattr(prepare, "_WORK", work)
    monkeypatch.setattr(wheels, "download", download)
    output = tmp_path / "pieces"
    command = ["device", "--output", str(output), "--piece", "1", "--python", HERE]
    assert main(command) == 0
    return output


def test_pieces_are_small_and_give_back_what_was_packed(
    pieces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted(pieces.glob("piece-*"))
    assert len(files) == 3
    assert max(file.stat().st_size for file in files) == 1_000_000
    monkeypatch.setattr(run, "WORK", tmp_path / "there")
    run.unpack(pieces, tmp_path / "package")
    wheel = tmp_path / "package" / "one-1.0-py3-none-any.whl"
    assert wheel.read_bytes() == b"wheel" * 400_000
    with np.load(tmp_path / "there" / "icons.npz") as icons:
        assert icons["subjects"].shape == (40, 40, 40)


def test_pieces_that_are_missing_damaged_or_for_another_python_are_named(
    pieces: Path, tmp_path: Path
) -> None:
    second = pieces / "piece-02"
    content = second.read_bytes()
    second.write_bytes(content[:-1] + b"x")
    with pytest.raises(SystemExit, match="piece-02: damaged"):
        run.unpack(pieces, tmp_path / "package")
    second.unlink()
    with pytest.raises(SystemExit, match="not all pieces are here yet: piece-02"):
        run.unpack(pieces, tmp_path / "package")
    manifest = json.loads((pieces / prepare.MANIFEST).read_text())
    (pieces / prepare.MANIFEST).write_text(json.dumps(manifest | {"python": "3.9"}))
    with pytest.raises(SystemExit, match=r"for Python 3\.9"):
        run.unpack(pieces, tmp_path / "package")


def test_training_data_is_asked_for_before_any_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prepare, "_WORK", tmp_path)
    monkeypatch.setattr(wheels, "download", pytest.fail)
    assert main(["device", "--output", str(tmp_path / "out")]) == 2
    assert "models.pocket.training.data" in capsys.readouterr().err


def test_torch_is_borrowed_with_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "sympy").mkdir()  # what the wheels brought stays
    run.borrow("torch", tmp_path)
    assert (tmp_path / "torch" / "__init__.py").is_file()
    assert (tmp_path / "networkx").is_symlink()
    assert not (tmp_path / "sympy").is_symlink()
    assert any(tmp_path.glob("torch-*.dist-info"))
    assert not (tmp_path / "diffusers").exists()


def _session(tmp_path: Path, seconds: float) -> session.Session:
    return session.Session(tmp_path, time.time() + seconds, small=True)


def test_a_step_that_fails_or_has_no_time_is_a_line_of_the_results(tmp_path: Path) -> None:
    one = _session(tmp_path, 60)
    one.results["asked"] = {"shape": "tiny", "size": 64, "steps": 4}

    def fails() -> None:
        raise EngineError("no such provider")

    one.step("first", fails)
    one.step("second", lambda: {"step": 0.5, "decode": 0.25, "picture": 12.0})
    one.step("third", dict, least=3600)
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["first"]["found"] == {"error": "no such provider"}
    assert "left out" in found["third"]["found"]["error"]
    said = (tmp_path / "results.md").read_text()
    assert "| second | 500.0 | 250 | 12.00 |" in said
    assert "first: no such provider" in said


def test_a_command_is_ended_with_what_it_started(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    later = f"import time, pathlib; time.sleep(2); pathlib.Path({str(mark)!r}).touch()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {later!r}])"
    with pytest.raises(session.subprocess.TimeoutExpired):
        session.run([sys.executable, "-c", parent], 0.5)
    time.sleep(2.5)
    assert not mark.exists()
    with pytest.raises(OSError, match="exit code 3"):
        session.run([sys.executable, "-c", "raise SystemExit(3)"], 20)


def test_a_fresh_process_may_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "import time\ndef wait(job, watch): time.sleep(job['seconds']); return {}\n"
    (tmp_path / "slow.py").write_text(lines)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    assert run_fresh("slow:wait", {"seconds": 0}, limit=300)["process"] > 0
    with pytest.raises(EngineError, match="it took longer than 1 s"):
        run_fresh("slow:wait", {"seconds": 300}, limit=1.0)


def test_the_section_says_what_was_found() -> None:
    results: dict[str, Any] = {
        "install": {"seconds": 40.0},
        "asked": {"shape": "sd-v1.4", "size": 512, "steps": 20},
        "pocket": {"found": {"device": "CUDA", "f32": 1, "f32 dB": 70.0, "f16": 3, "f16 dB": 55.1}},
        "f16, bound": {"found": {"step": 0.02, "decode": 0.05, "picture": 0.6}},
        "no memory": {"found": {"device": "CPU", "said": ["on the CPU"], "asked": "is short"}},
        "training": {
            "found": {
                "first": {"step": 50.0, "loss": 0.04},
                "last": {"step": 4050.0, "loss": 0.03},
                "minutes": 2.0,
                "parts": [],
            }
        },
    }
    said = report.markdown(results)
    assert said.startswith("## CPU against GPU")
    assert "differs from the CPU by at most 1 of 255 in f32" in said
    assert "Shape sd-v1.4, 512x512, 20 steps, guidance 7.5:" in said
    assert "| f16, bound | 20.0 | 50 | 0.60 |" in said
    assert 'Where the GPU\'s memory is short, "auto" paints on CPU (on the CPU)' in said
    assert "4,000 steps, loss 0.0400 to 0.0300" in said


@pytest.mark.parametrize("writes", [True, False])
def test_a_training_that_does_not_end_in_time_gives_what_it_has_written(
    writes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "WORK", tmp_path)
    (tmp_path / "diffusion.pt").write_text("of an earlier one", encoding="utf-8")
    os.utime(tmp_path / "diffusion.pt", (0, 0))
    write = "open('diffusion.pt', 'w').write('newer');" if writes else ""
    code = f"import os, time; os.chdir({str(tmp_path)!r}); {write} time.sleep(300)"
    monkeypatch.setattr(training, "_stage", lambda name: [sys.executable, "-c", code])
    if writes:
        training.train(1.0, 1e-3, limit=2.0)
        assert (tmp_path / "diffusion.pt").read_text(encoding="utf-8") == "newer"
    else:
        with pytest.raises(EngineError, match=r"wrote no state in 1 s; see .*diffusion\.log"):
            training.train(1.0, 1e-3, limit=1.0)


def test_the_trainings_state_comes_back_in_small_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "WORK", tmp_path)
    monkeypatch.setattr(training, "_PART", 30_000)
    module = torch.nn.Linear(100, 100)
    optimizer = torch.optim.AdamW(module.parameters())
    for _ in range(2100):  # more than float16 counts to
        module(torch.ones(100)).square().mean().backward()
        optimizer.step()
    state = {"module": module.state_dict(), "optimizer": optimizer.state_dict(), "step": 2100}
    torch.save(state, tmp_path / "diffusion.pt")
    out = tmp_path / "out"
    out.mkdir()
    names = training.save(out)
    assert len(names) > 1
    assert max((out / name).stat().st_size for name in names) <= 30_000
    (tmp_path / "joined").write_bytes(b"".join((out / name).read_bytes() for name in names))
    again = torch.load(tmp_path / "joined")
    other = torch.nn.Linear(100, 100)
    fresh = torch.optim.AdamW(other.parameters())
    other.load_state_dict(again["module"])
    fresh.load_state_dict(again["optimizer"])
    assert torch.allclose(other.weight, module.weight, rtol=1e-3, atol=1e-6)
    assert fresh.state[other.weight]["step"] == optimizer.state[module.weight]["step"]
    moment = optimizer.state[module.weight]["exp_avg_sq"]
    assert torch.allclose(fresh.state[other.weight]["exp_avg_sq"], moment, rtol=1e-2, atol=0)
