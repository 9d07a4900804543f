"""All systems are given the same job, and do it."""

import importlib.util
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pleinair.bench import systems
from pleinair.bench.worker import Watch


@pytest.fixture
def job(tiny_checkpoint: Path, exported_openvino: Path, tmp_path: Path) -> systems.Job:
    return systems.Job(
        model=str(exported_openvino),
        checkpoint=str(tiny_checkpoint),
        prompt="a red apple",
        size=64,
        steps=4,
        guidance=7.5,
        scheduler="pndm",
        threads=2,
        seed=42,
        output=str(tmp_path / "picture.png"),
    )


def _paint(name: str, job: systems.Job) -> tuple[systems.Times, np.ndarray]:
    class Silent:
        def write(self, text: str) -> None: ...
        def flush(self) -> None: ...

    times = systems.load(name).paint(job, Watch(time.perf_counter(), Silent()))
    return times, np.asarray(Image.open(job.output)).astype(int)


@pytest.mark.parametrize("scheduler", ["pndm", "ddim"])
def test_pleinair_and_diffusers_paint_the_same_picture(job: systems.Job, scheduler: str) -> None:
    """Steps, scheduler, guidance, size, seed and prompt all reach both, or this would differ."""
    job = replace(job, scheduler=scheduler)
    ours, theirs = _paint("pleinair", job)[1], _paint("diffusers", job)[1]
    assert ours.shape == (64, 64, 3)
    assert abs(ours - theirs).max() <= 1
    assert ours.std() > 1


@pytest.mark.parametrize("name", ["pleinair", "openvino_genai", "diffusers"])
def test_times_cover_the_same_stages(name: str, job: systems.Job) -> None:
    begun = time.perf_counter()
    times, image = _paint(name, job)
    elapsed = time.perf_counter() - begun
    assert image.shape == (64, 64, 3)
    assert len(times.steps) == 5  # PNDM evaluates once more than it is asked for
    assert min(times.ready, times.encode, times.decode, *times.steps) > 0
    stages = times.encode + sum(times.steps) + times.decode
    # genai tells encoding and decoding to the millisecond only.
    assert stages < times.picture + 0.002
    assert times.ready + times.picture <= elapsed


def test_what_cannot_take_part_is_told_why(
    job: systems.Job, exported_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert systems.load("pleinair").unable(job) is None
    assert systems.load("openvino_genai").unable(job) is None
    assert systems.load("diffusers").unable(job) is None
    assert "no ONNX graphs" in systems.load("pleinair_onnx").unable(job)
    onnx = replace(job, model=str(exported_onnx))
    assert systems.load("pleinair_onnx").unable(onnx) is None
    assert "no OpenVINO graphs" in systems.load("pleinair").unable(onnx)
    assert "no OpenVINO graphs" in systems.load("openvino_genai").unable(onnx)
    assert "--checkpoint" in systems.load("diffusers").unable(replace(job, checkpoint=None))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert systems.load("diffusers").unable(job) == "not installed: torch, diffusers, transformers"
