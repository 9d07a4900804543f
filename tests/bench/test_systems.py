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
from fakes import POCKET
from pleinair.bench import systems
from pleinair.bench.process import run_fresh
from pleinair.bench.worker import Watch
from pleinair.runtime.errors import SettingError


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
    way = "" if name == "optimum_onnx" else "precision=f32"
    job = replace(job, model=model, scheduler="ddim", way=way)
    fields = asdict(job) | {"system": name}
    assert run_fresh(f"{systems.__name__}:unable", fields, python=optimum_python)["reason"] is None
    times = run_fresh(f"{systems.__name__}:paint", fields, python=optimum_python)
    assert len(times["steps"]) == 4
    assert times["libraries"]["diffusers"] != version("diffusers")
    theirs = np.asarray(Image.open(job.output)).astype(int)
    job = replace(job, way="exact")
    ours = _paint("pleinair_onnx" if format == "onnx" else "pleinair", job)[1]
    assert abs(ours - theirs).max() <= 1


@pytest.mark.parametrize(
    ("features", "way", "dtype"),
    [
        (["avx512_bf16"], "", "bfloat16"),
        (["avx512_bf16"], "precision=f32", "float32"),
        (["avx2"], "", "float32"),
        (["avx2"], "precision=bf16", "bfloat16"),
    ],
)
def test_diffusers_computes_in_what_the_processor_does_best(
    features: list[str], way: str, dtype: str, job: systems.Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, found = systems.load("diffusers"), []
    monkeypatch.setattr(system, "features", lambda: features)
    monkeypatch.setattr(system, "paint_with", lambda pipe, *_: found.append(str(pipe.unet.dtype)))
    system.paint(replace(job, way=way), None)
    assert found == [f"torch.{dtype}"]


@pytest.mark.parametrize("precision", [None, "f32"])
def test_genai_is_left_its_own_precision(
    precision: str | None, job: systems.Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openvino_genai

    asked: dict[str, Any] = {}

    class Pipeline:
        def __init__(self, model: str) -> None: ...
        def set_scheduler(self, scheduler: Any) -> None: ...
        def reshape(self, *sizes: Any) -> None: ...

        def compile(self, device: str, **hints: Any) -> None:
            asked.update(hints)
            raise KeyboardInterrupt

    monkeypatch.setattr(openvino_genai, "Text2ImagePipeline", Pipeline)
    way = f"precision={precision}" if precision else ""
    with pytest.raises(KeyboardInterrupt):
        systems.load("openvino_genai").paint(replace(job, way=way), None)
    assert asked.get("INFERENCE_PRECISION_HINT") == precision


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("openvino_genai", "fast"),
        ("openvino_genai", "precision="),
        ("diffusers", "model=FOLDER"),
        ("stable_diffusion_cpp", "precision=f32"),
        ("pleinair", "percision=f32"),
    ],
)
def test_settings_that_a_system_has_not(name: str, way: str) -> None:
    with pytest.raises(SettingError, match="setting"):
        systems.check(name, way)


def test_fastsdcpu_wants_the_tiny_decoder(
    job: systems.Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: ModuleSpec(name, None))
    system = systems.load("fastsdcpu")
    assert system.unable(job) == "the folder has no vae_decoder_tiny"
    assert system.unable(replace(job, model=str(POCKET))) is None


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
    assert asked["diffusion_conv_direct"] is False
    assert "wtype" not in asked
    way = "type=q8_0,conv_direct=true,flash_attention=true"
    _paint("stable_diffusion_cpp", replace(job, scheduler="euler", single_file="f", way=way))
    chosen = {"wtype": "q8_0", "diffusion_conv_direct": True, "vae_conv_direct": True}
    assert (chosen | {"diffusion_flash_attn": True}).items() <= asked.items()


@pytest.mark.parametrize("scheduler", ["pndm", "ddim"])
def test_pleinair_and_diffusers_paint_the_same_picture(job: systems.Job, scheduler: str) -> None:
    """Steps, scheduler, guidance, size, seed and prompt all reach both, or this would differ."""
    job = replace(job, scheduler=scheduler)
    ours = _paint("pleinair", replace(job, way="exact"))[1]
    theirs = _paint("diffusers", replace(job, way="precision=f32"))[1]
    assert ours.shape == (64, 64, 3)
    assert abs(ours - theirs).max() <= 1
    assert ours.std() > 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["diffusers", "openvino_genai"])
def test_a_latent_consistency_model_is_painted_alike(
    name: str, job: systems.Job, both: Any
) -> None:
    """Told its guidance, in four steps; openvino_genai draws other noise."""
    checkpoint, folder = both("tiny-lcm", tiny_lcm, "openvino")
    job = replace(job, model=str(folder), checkpoint=str(checkpoint), scheduler="lcm", guidance=8.5)
    job = replace(job, way="precision=f32")
    times, theirs = _paint(name, job)
    assert len(times.steps) == 4
    assert theirs.std() > 1
    if name == "diffusers":
        assert abs(_paint("pleinair", replace(job, way="exact"))[1] - theirs).max() <= 1


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
