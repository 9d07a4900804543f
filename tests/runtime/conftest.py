"""An engine and a graph for it; diffusers and our pipeline on the tiny model."""

from pathlib import Path
from typing import Any

import pytest
from engines import ENGINES

import openvino_core
from pleinair.runtime import StableDiffusionPipeline


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Any:
    """For tests with `@pytest.mark.parametrize("engine", ENGINES, indirect=True)`."""
    return ENGINES[request.param]()


@pytest.fixture
def file(engine: Any, request: pytest.FixtureRequest) -> Path:
    """The tiny model's UNet in that engine's format."""
    name = {"openvino": "openvino_model.xml", "onnx": "model.onnx"}[engine.format]
    return request.getfixturevalue(f"exported_{engine.format}") / "unet" / name


@pytest.fixture
def core_calls(monkeypatch: pytest.MonkeyPatch) -> list[openvino_core.Call]:
    """What OpenVINO's core is asked by the engines that the test makes."""
    return openvino_core.watched(monkeypatch)


@pytest.fixture(scope="module")
def reference(tiny_checkpoint: Path) -> Any:
    """diffusers' pipeline on the checkpoint that `exported_openvino` and `exported_onnx` are of.

    A module that tests another kind of model has a `reference` and a `pipe` of its own.
    """
    import torch
    from diffusers import StableDiffusionPipeline as Diffusers
    from safetensors.torch import load_file

    torch.set_num_threads(1)
    pipe = Diffusers.from_pretrained(tiny_checkpoint)
    # Some transformers read these old key names as nothing at all, and warn: load them by hand.
    weights = load_file(tiny_checkpoint / "text_encoder" / "model.safetensors")
    keys = pipe.text_encoder.state_dict()
    bare = {key.removeprefix("text_model."): value for key, value in weights.items()}
    renamed = {key: bare[key.removeprefix("text_model.")] for key in keys}
    pipe.text_encoder.load_state_dict(renamed, strict=True)
    if not hasattr(pipe.text_encoder, "text_model"):
        # diffusers 0.42 looks for clip_skip's norm where transformers had it before 5.6.
        object.__setattr__(pipe.text_encoder, "text_model", pipe.text_encoder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def config(reference: Any) -> Any:
    """Of the checkpoint's scheduler, in case a test exchanges `reference.scheduler`."""
    return dict(reference.scheduler.config)


@pytest.fixture(scope="module", params=["openvino", "onnxruntime"])
def pipe(request: pytest.FixtureRequest) -> StableDiffusionPipeline:
    """Our pipeline on `reference`'s checkpoint, by each engine."""
    folder = {"openvino": "exported_openvino", "onnxruntime": "exported_onnx"}[request.param]
    return StableDiffusionPipeline.from_pretrained(
        request.getfixturevalue(folder), engine=request.param, device="cpu", profile="exact"
    )
