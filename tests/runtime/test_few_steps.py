"""Models of few steps: an LCM-LoRA and a Lightning LoRA merged at export, no unguided half."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import loras
import traces
from checkpoints_xl import tiny_lcm, tiny_stable_diffusion_xl
from evaluations import watched
from pleinair.export import export_model
from pleinair.runtime import StableDiffusionPipeline, families
from pleinair.runtime.model import catalog
from pleinair.runtime.model.bundle import Bundle
from references import PROMPT, differ, paint_reference

pytestmark = pytest.mark.usefixtures("compiled_once")

SIZE = {"width": 64, "height": 64}
ENGINES = pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])


def opened(folder: Path, engine: str = "openvino", **options: Any) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(
        folder, engine=engine, device="cpu", profile="exact", **options
    )


@pytest.fixture(scope="module")
def lcm_lora(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as latent-consistency/lcm-lora-sdv1-5 is: kohya's names, the UNet alone."""
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(tiny_checkpoint / "unet")
    folder = tmp_path_factory.mktemp("lcm-lora")
    return loras.kohya(folder / "pytorch_lora_weights.safetensors", loras.factors(unet, 5))


@pytest.fixture(scope="module")
def merged(tiny_checkpoint: Path, lcm_lora: Path, made: Any) -> Callable[[str], Path]:
    """`merged(engine)`: the checkpoint with the file in its weights, exported for an engine."""

    def get(engine: str) -> Path:
        formats = ["onnx" if engine == "onnxruntime" else engine]

        def export(folder: Path) -> None:
            with traces.shared(made):
                export_model(tiny_checkpoint, folder, formats, "fp32", loras=[(lcm_lora, 0.5)])

        return made(f"exported/{engine}/tiny-lcm-merged", export)

    return get


@pytest.fixture(scope="module")
def expected(tiny_checkpoint: Path, lcm_lora: Path) -> np.ndarray:
    """As diffusers documents LCM-LoRA: its scheduler from the model's, fused, four steps."""
    from diffusers import LCMScheduler
    from diffusers import StableDiffusionPipeline as Diffusers

    reference = Diffusers.from_pretrained(tiny_checkpoint, safety_checker=None)
    reference.scheduler = LCMScheduler.from_config(reference.scheduler.config)
    few = {"num_inference_steps": 4, "guidance_scale": 1.0, **SIZE}
    plain = paint_reference(reference, [2], **few)
    reference.load_lora_weights(lcm_lora)
    reference.fuse_lora(lora_scale=0.5)
    found = paint_reference(reference, [2], **few)
    assert np.abs(found.astype(int) - plain).max() > 5
    return found


@ENGINES
def test_a_merged_lcm_lora_is_diffusers_fused(
    merged: Callable[[str], Path], expected: np.ndarray, engine: str
) -> None:
    """Nothing has to be said: four steps without guidance are such a folder's own."""
    ours = opened(merged(engine), engine)(PROMPT, seed=2, **SIZE)
    assert len(ours.timings.steps) == 4
    assert differ(ours.images, expected) <= 1


@ENGINES
def test_so_is_one_put_on_at_the_start(
    exported_openvino: Path, exported_onnx: Path, lcm_lora: Path, expected: np.ndarray, engine: str
) -> None:
    folder = exported_openvino if engine == "openvino" else exported_onnx
    pipe = opened(folder, engine, loras=[(lcm_lora, 0.5)])
    few: dict[str, Any] = {"num_inference_steps": 4, "guidance_scale": 1.0, "scheduler": "lcm"}
    assert differ(pipe(PROMPT, seed=2, **few, **SIZE).images, expected) <= 1


def test_a_file_that_is_known_says_how_it_is_painted(
    exported_openvino: Path, lcm_lora: Path, expected: np.ndarray
) -> None:
    """The folder of a file that is named as all are says what it is: lcm-lora."""
    pipe = opened(exported_openvino, loras=[(lcm_lora, 0.5)])
    ours = pipe(PROMPT, seed=2, **SIZE)
    assert len(ours.timings.steps) == 4
    assert differ(ours.images, expected) <= 1
    assert opened(exported_openvino).plan(PROMPT).settings.steps == 20


def test_the_folder_names_the_solver(merged: Callable[[str], Path]) -> None:
    bundle = Bundle.open(merged("openvino"))
    assert bundle.scheduler["_class_name"] == "LCMScheduler"
    assert bundle.scheduler["beta_schedule"] == "scaled_linear"
    assert families.of(bundle).recommended == catalog.Recommended(64, 4, 1.0, "lcm")


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_without_guidance_the_unet_is_asked_for_the_prompt_alone(
    merged: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, scale: float
) -> None:
    pipe = opened(merged("openvino"))
    seen = watched(pipe, monkeypatch)
    pipe(PROMPT, "a boat", seed=2, guidance_scale=scale, **SIZE)
    assert [one.batch for one in seen] == [1] * 4
    seen.clear()
    pipe(PROMPT, "a boat", seed=2, guidance_scale=1.5, **SIZE)
    assert [one.batch for one in seen] == [2] * 4


def test_a_unet_that_is_told_its_guidance_is_asked_once(
    both: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = opened(both("tiny-lcm", tiny_lcm, "openvino")[1])
    seen = watched(pipe, monkeypatch)
    pipe(PROMPT, "a boat", seed=2, guidance_scale=8.5, **SIZE)
    assert [one.batch for one in seen] == [1] * 4


@pytest.mark.slow
def test_a_merged_lightning_lora_is_diffusers_fused(made: Any, tmp_path: Path) -> None:
    """As ByteDance documents SDXL-Lightning: Euler from the very end of the noise, no guidance."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    checkpoint = made("checkpoint/tiny-xl", tiny_stable_diffusion_xl)
    reference = StableDiffusionXLPipeline.from_pretrained(checkpoint, add_watermarker=False)
    # PEFT's names in diffusers' own files; theirs has the UNet alone as well.
    weights = {
        key: value
        for key, value in loras.factors(reference.unet, 4).items()
        if not key.startswith("add_embedding")
    }
    file = loras.diffusers(tmp_path / "lightning.safetensors", weights)
    reference.scheduler = EulerDiscreteScheduler.from_config(
        reference.scheduler.config, timestep_spacing="trailing"
    )
    few = {"num_inference_steps": 4, "guidance_scale": 0.0, **SIZE}
    reference.load_lora_weights(file)
    reference.fuse_lora(lora_scale=0.1)
    expected = paint_reference(reference, [2], **few)
    solver: dict[str, Any] = {"scheduler": "euler", "timestep_spacing": "trailing"}
    folder = export_model(
        checkpoint, tmp_path / "model", precision="fp32", loras=[(file, 0.1)], **solver
    )
    assert differ(opened(folder)(PROMPT, seed=2, **few).images, expected) <= 1
    leading = {**few, "num_inference_steps": 3}
    assert differ(opened(folder)(PROMPT, seed=2, **leading).images, expected) > 1
