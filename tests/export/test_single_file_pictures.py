"""A single file paints what diffusers paints from the folder of the same weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import single_files
from checkpoints import compvis_state, tiny_stable_diffusion
from pictures import hole, painting
from pleinair.export import cli, export_model
from pleinair.runtime import StableDiffusionPipeline

_SIZE = {"width": 64, "height": 64}
_CALLS: dict[str, dict[str, Any]] = {
    "StableDiffusionPipeline": _SIZE,
    "StableDiffusionInpaintPipeline": {"image": painting(), "mask_image": hole(), **_SIZE},
    "StableDiffusionInstructPix2PixPipeline": {"image": painting()},
    "StableDiffusionXLPipeline": _SIZE,
}


def _version_1(channels: int, pipeline: str) -> Callable[[Path], Path]:
    options = {"in_channels": channels, "pipeline": pipeline}
    return lambda folder: tiny_stable_diffusion(
        folder, clip_vocabulary=True, old_keys=False, **options
    )


_KINDS: dict[str, tuple[str, Callable[[Path], Path], Callable[[Path], Any]]] = {
    "v1": ("StableDiffusionPipeline", _version_1(4, "StableDiffusionPipeline"), compvis_state),
    "v2": (
        "StableDiffusionPipeline",
        single_files.tiny_version_2,
        single_files.version_2_state,
    ),
    "inpainting": (
        "StableDiffusionInpaintPipeline",
        _version_1(9, "StableDiffusionInpaintPipeline"),
        compvis_state,
    ),
    "instruction": (
        "StableDiffusionInstructPix2PixPipeline",
        _version_1(8, "StableDiffusionInstructPix2PixPipeline"),
        compvis_state,
    ),
    "xl": ("StableDiffusionXLPipeline", single_files.tiny_xl, single_files.xl_state),
}


# Each exports a model: by default one, whose kind shares least with what other tests export.
_LONG = ("v1", "inpainting", "instruction", "xl")


@pytest.mark.parametrize(
    "kind", ["v2", *(pytest.param(kind, marks=pytest.mark.slow) for kind in _LONG)]
)
def test_the_picture_is_the_folders(tmp_path: Path, kind: str, traced_once: None) -> None:
    pipeline, make, as_one = _KINDS[kind]
    folder = make(tmp_path / "folder")
    save_file(as_one(folder), tmp_path / "tiny.safetensors")
    formats = ["openvino", "onnx"] if kind == "v2" else ["openvino"]
    target = export_model(
        tmp_path / "tiny.safetensors", tmp_path / "model", formats=formats, precision="fp32"
    )
    expected = _reference(folder, pipeline)
    for engine in ("openvino", "onnxruntime")[: len(formats)]:
        pipe = StableDiffusionPipeline.from_pretrained(
            target, engine=engine, device="cpu", profile="exact"
        )
        error = np.abs(_painted(pipe, pipeline) - expected.astype(int)).max()
        assert error <= 1, engine


def test_a_picture_of_parts_from_here_and_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], traced_once: None
) -> None:
    """A file with nothing but the UNet's running averages, and the command's four options."""
    folder = single_files.tiny_version_2(tmp_path / "folder")
    state = single_files.version_2_state(folder)
    start = "model."
    averages = {
        f"model_ema.{key.removeprefix(start).replace('.', '')}": value
        for key, value in state.items()
        if key.startswith("model.diffusion_model.")
    }
    file = tmp_path / "averages.safetensors"
    save_file(averages, file)
    assert cli.main([str(file), str(tmp_path / "model"), "--quiet"]) == 2
    assert "--text-encoder FILE_OR_FOLDER" in capsys.readouterr().err
    options = ["--vae", str(folder), "--text-encoder", str(folder), "--precision", "fp32"]
    options += ["--ema", "--prediction-type", "v_prediction"]
    assert cli.main([str(file), str(tmp_path / "model"), *options]) == 0
    expected = _reference(folder, "StableDiffusionPipeline")
    pipe = StableDiffusionPipeline.from_pretrained(
        tmp_path / "model", device="cpu", profile="exact"
    )
    error = np.abs(_painted(pipe, "StableDiffusionPipeline") - expected.astype(int)).max()
    assert error <= 1


def _painted(pipe: StableDiffusionPipeline, name: str) -> np.ndarray:
    picture = pipe(
        "a red apple",
        "blue house",
        seed=3,
        scheduler="ddim",
        num_inference_steps=2,
        guidance_scale=5.0,
        **_CALLS[name],
    ).images[0]
    return np.asarray(picture).astype(int)


def _reference(folder: Path, name: str) -> np.ndarray:
    """The same call to diffusers' own pipeline."""
    import diffusers

    pipe = getattr(diffusers, name).from_pretrained(folder)
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    picture = pipe(
        "a red apple",
        negative_prompt="blue house",
        generator=torch.Generator("cpu").manual_seed(3),
        num_inference_steps=2,
        guidance_scale=5.0,
        **_CALLS[name],
    ).images[0]
    pixels = np.asarray(picture)
    assert pixels.std() > 10  # a flat picture would equal anything flat
    return pixels
