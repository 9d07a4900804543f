"""optimum opens what is exported here, and what it exports has the same ends and paints the same.

optimum needs older libraries than ours, so it works in an environment of its own. README.md has the
command that makes it; PLEINAIR_OPTIMUM_PYTHON names its Python.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest

pytestmark = pytest.mark.interop

_PROMPT = "a red apple on a boat"
_Size = tuple[int, int]


@pytest.fixture(scope="module")
def expected(tiny_checkpoint: Path) -> Callable[[_Size], np.ndarray]:
    """What diffusers paints with the settings of peer.py, by height and width."""
    import torch
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(tiny_checkpoint, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)

    def paint(size: _Size) -> np.ndarray:
        return pipe(
            _PROMPT,
            height=size[0],
            width=size[1],
            num_inference_steps=3,
            guidance_scale=7.5,
            generator=torch.Generator("cpu").manual_seed(7),
            output_type="np",
        ).images[0]

    return paint


@pytest.mark.parametrize("engine", ["openvino", "onnx"])
def test_optimum_paints_with_our_folder(
    request: pytest.FixtureRequest,
    optimum: Any,
    expected: Callable[[_Size], np.ndarray],
    tmp_path: Path,
    engine: str,
) -> None:
    folder, odd = request.getfixturevalue(f"exported_{engine}"), (72, 104)  # latents 9 x 13
    optimum.paint(engine, folder, tmp_path / "picture.npy", _PROMPT, odd)
    picture = np.load(tmp_path / "picture.npy")
    np.testing.assert_allclose(picture, expected(odd), atol=1 / 255)


@pytest.mark.parametrize("engine", ["openvino", "onnx"])
def test_optimum_paints_the_same_with_its_own_folder(
    request: pytest.FixtureRequest,
    optimum: Any,
    expected: Callable[[_Size], np.ndarray],
    tmp_path: Path,
    engine: str,
) -> None:
    # Its ONNX graphs only double: latents of an odd size, as above, are an error there.
    folder, even = request.getfixturevalue(f"optimum_{engine}"), (64, 96)
    optimum.paint(engine, folder, tmp_path / "picture.npy", _PROMPT, even)
    picture = np.load(tmp_path / "picture.npy")
    np.testing.assert_allclose(picture, expected(even), atol=1 / 255)


def _ends_openvino(folder: Path, part: str) -> tuple[dict[str, str], dict[str, str]]:
    model = openvino.Core().read_model(folder / part / "openvino_model.xml")
    inputs, outputs = (
        {port.any_name: f"{port.element_type} rank {len(port.partial_shape)}" for port in ports}
        for ports in (model.inputs, model.outputs)
    )
    return inputs, outputs


def _ends_onnx(folder: Path, part: str) -> tuple[dict[str, str], dict[str, str]]:
    graph = onnx.load(folder / part / "model.onnx", load_external_data=False).graph
    inputs, outputs = (
        {
            value.name: f"{value.type.tensor_type.elem_type} "
            f"rank {len(value.type.tensor_type.shape.dim)}"
            for value in values
        }
        for values in (graph.input, graph.output)
    )
    return inputs, outputs


@pytest.mark.parametrize("part", ["text_encoder", "unet", "vae_decoder", "vae_encoder"])
@pytest.mark.parametrize("engine", ["openvino", "onnx"])
def test_the_ends_are_optimums(request: pytest.FixtureRequest, engine: str, part: str) -> None:
    ends = {"openvino": _ends_openvino, "onnx": _ends_onnx}[engine]
    our_inputs, our_outputs = ends(request.getfixturevalue(f"exported_{engine}"), part)
    their_inputs, their_outputs = ends(request.getfixturevalue(f"optimum_{engine}"), part)
    assert our_inputs == their_inputs
    assert our_outputs.items() >= their_outputs.items()


@pytest.mark.parametrize("engine", ["openvino", "onnx"])
def test_the_files_are_optimums(request: pytest.FixtureRequest, engine: str) -> None:
    def files(folder: Path) -> set[str]:
        return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}

    ours = files(request.getfixturevalue(f"exported_{engine}"))
    theirs = files(request.getfixturevalue(f"optimum_{engine}"))
    assert theirs <= ours
    assert ours - theirs == {"pleinair.json", "tokenizer/tokenizer.json"}
