"""optimum and Pleinair open each other's Stable Diffusion XL; as in test_optimum.py."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checkpoints_xl import tiny_stable_diffusion_xl
from pleinair.runtime import StableDiffusionPipeline

pytestmark = pytest.mark.interop

_PROMPT = "a red apple on a boat"
_ENGINES = {"openvino": "openvino", "onnx": "onnxruntime"}


@pytest.fixture(scope="module")
def checkpoint(made: Any) -> Path:
    return made("checkpoint/tiny-xl", tiny_stable_diffusion_xl)


@pytest.fixture(scope="module")
def expected(checkpoint: Path) -> np.ndarray:
    """What diffusers paints with the settings of peer.py."""
    import torch
    from diffusers import StableDiffusionXLPipeline

    pipe: Any = StableDiffusionXLPipeline.from_pretrained(checkpoint, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe(
        _PROMPT,
        height=64,
        width=96,
        num_inference_steps=3,
        guidance_scale=7.5,
        generator=torch.Generator("cpu").manual_seed(7),
        output_type="np",
    ).images[0]


@pytest.mark.parametrize("form", _ENGINES)
def test_optimum_paints_with_our_folder(
    optimum: Any, both: Any, expected: np.ndarray, tmp_path: Path, form: str
) -> None:
    _, folder = both("tiny-xl", tiny_stable_diffusion_xl, _ENGINES[form])
    picture = tmp_path / "picture.npy"
    optimum.paint(form, folder, picture, _PROMPT, (64, 96))
    np.testing.assert_allclose(np.load(picture), expected, atol=1 / 255)


@pytest.mark.parametrize("form", _ENGINES)
def test_we_paint_with_its_folder(
    optimum: Any, expected: np.ndarray, tmp_path: Path, form: str
) -> None:
    # The same weights under the names that its transformers reads; others it would leave random.
    published = tiny_stable_diffusion_xl(tmp_path / "checkpoint", old_keys=True)
    optimum.export(form, published, tmp_path / "theirs")
    pipe = StableDiffusionPipeline.from_pretrained(
        tmp_path / "theirs", engine=_ENGINES[form], device="cpu", profile="exact"
    )
    settings = {"num_inference_steps": 3, "guidance_scale": 7.5, "width": 96, "height": 64}
    ours = pipe(_PROMPT, seed=7, output_type="np", **settings).images[0]
    np.testing.assert_allclose(ours, expected, atol=1 / 255)
