"""All systems are given the same job, and do it."""

import importlib.util
import sys
import time
from dataclasses import asdict, replace
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from checkpoints_xl import tiny_lcm
from pleinair.bench import systems
from pleinair.bench.process import run_fresh
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


def _module(name: str) -> ModuleType:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    return module


@pytest.mark.interop
@pytest.mark.parametrize("name", ["optimum_intel", "optimum_onnx"])
def test_optimum_paints_ours_in_its_own_environment(
    name: str, job: systems.Job, optimum_python: str, request: pytest.FixtureRequest
) -> None:
    """Through the very processes that `peers` starts; DDIM, so that the pictures are the same."""
    format = "onnx" if name == "optimum_onnx" else "openvino"
    model = str(request.getfixturevalue(f"exported_{format}"))
    job = replace(job, model=model, scheduler="ddim")
    fields = asdict(job) | {"system": name}
    assert run_fresh(f"{systems.__name__}:unable", fields, python=optimum_python)["reason"] is None
    times = run_fresh(f"{systems.__name__}:paint", fields, python=optimum_python)
    assert len(times["steps"]) == 4
    assert times["libraries"]["diffusers"] != version("diffusers")
    theirs = np.asarray(Image.open(job.output)).astype(int)
    ours = _paint("pleinair_onnx" if format == "onnx" else "pleinair", job)[1]
    assert abs(ours - theirs).max() <= 1


def test_stable_diffusion_cpp_is_called_as_it_documents(
    job: systems.Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in with its signatures: it is built from source, which no test waits for."""
    asked: dict[str, Any] = {}

    class StableDiffusion:
        def __init__(self, **settings: Any) -> None:
            asked.update(settings)

        def generate_image(self, progress_callback: Any, **settings: Any) -> list[Image.Image]:
            asked.update(settings)
            for step in range(settings["sample_steps"] + 1):
                progress_callback(step, settings["sample_steps"], 0.1)
            return [Image.new("RGB", (settings["width"], settings["height"]))]

    module = _module("stable_diffusion_cpp")
    module.StableDiffusion = StableDiffusion
    monkeypatch.setitem(sys.modules, "stable_diffusion_cpp", module)
    times, image = _paint(
        "stable_diffusion_cpp", replace(job, scheduler="euler_a", single_file="f")
    )
    assert image.shape == (64, 64, 3)
    assert len(times.steps) == 4
    assert {
        "model_path": "f",
        "n_threads": 2,
        "seed": 42,
        "cfg_scale": 7.5,
    }.items() <= asked.items()
    assert {"sample_method": "euler_a", "eta": 1.0, "rng_type": "cpu"}.items() <= asked.items()


@pytest.mark.parametrize("scheduler", ["pndm", "ddim"])
def test_pleinair_and_diffusers_paint_the_same_picture(job: systems.Job, scheduler: str) -> None:
    """Steps, scheduler, guidance, size, seed and prompt all reach both, or this would differ."""
    job = replace(job, scheduler=scheduler)
    ours, theirs = _paint("pleinair", job)[1], _paint("diffusers", job)[1]
    assert ours.shape == (64, 64, 3)
    assert abs(ours - theirs).max() <= 1
    assert ours.std() > 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["diffusers", "openvino_genai"])
def test_a_latent_consistency_model_is_painted_alike(
    name: str, job: systems.Job, both: Any
) -> None:
    """Told its guidance, in four steps; openvino_genai draws other noise."""
    checkpoint, folder = both("tiny-lcm", tiny_lcm)
    job = replace(job, model=str(folder), checkpoint=str(checkpoint), scheduler="lcm", guidance=8.5)
    times, theirs = _paint(name, job)
    assert len(times.steps) == 4
    assert theirs.std() > 1
    if name == "diffusers":
        assert abs(_paint("pleinair", job)[1] - theirs).max() <= 1


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
    cpp = systems.load("stable_diffusion_cpp")
    monkeypatch.setitem(sys.modules, "stable_diffusion_cpp", _module("stable_diffusion_cpp"))
    assert "--single-file" in cpp.unable(job)
    assert "no such file" in cpp.unable(replace(job, single_file="nowhere.safetensors"))
    there = replace(job, single_file=__file__)
    assert cpp.unable(there) == "it has no pndm"
    assert cpp.unable(replace(there, scheduler="euler")) is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert cpp.unable(job) == "not installed: stable_diffusion_cpp"
    assert "optimum.intel" in systems.load("optimum_intel").unable(job)
    assert "optimum.onnxruntime" in systems.load("optimum_onnx").unable(job)
    assert systems.load("diffusers").unable(job) == "not installed: torch, diffusers, transformers"
