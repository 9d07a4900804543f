"""Stable Diffusion 2, SD-Turbo and latent consistency models are diffusers', at most 1/255 off."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checkpoints_xl import rewrite, tiny_lcm, tiny_stable_diffusion_2, tiny_turbo
from pictures import painting
from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.denoise.guidance import scale_embedding
from pleinair.runtime.errors import SchedulerError
from references import NEGATIVE, PROMPT, differ, paint_reference

pytestmark = pytest.mark.usefixtures("compiled_once")

SIZE = {"width": 64, "height": 64}


def opened(folder: Path, engine: str) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(
        folder, engine=engine, device="cpu", profile="exact"
    )


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_stable_diffusion_2(both: Any, engine: str) -> None:
    """v-prediction, heads by level, linear projections, OpenCLIP's text encoder and padding."""
    from diffusers import StableDiffusionPipeline as Diffusers

    def build(folder: Path) -> Path:
        tiny_stable_diffusion_2(folder, prediction_type="v_prediction")
        ddim = {"_class_name": "DDIMScheduler"}
        rewrite(folder / "scheduler" / "scheduler_config.json", **ddim)
        rewrite(folder / "model_index.json", scheduler=["diffusers", "DDIMScheduler"])
        return folder

    checkpoint, folder = both("tiny-sd2", build, engine)
    arguments = {"num_inference_steps": 4, "guidance_scale": 7.5, "negative_prompt": NEGATIVE}
    theirs = paint_reference(Diffusers.from_pretrained(checkpoint), [2], **arguments, **SIZE)
    ours = opened(folder, engine)(PROMPT, seed=2, **arguments, **SIZE)
    assert differ(ours.images, theirs) <= 1


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("steps", [1, 3])
def test_turbo(both: Any, engine: str, steps: int) -> None:
    from diffusers import EulerAncestralDiscreteScheduler
    from diffusers import StableDiffusionPipeline as Diffusers

    checkpoint, folder = both("tiny-turbo", tiny_turbo, engine)
    reference, pipe = Diffusers.from_pretrained(checkpoint), opened(folder, engine)
    arguments = {"num_inference_steps": steps, "guidance_scale": 0.0, **SIZE}
    theirs = paint_reference(reference, [2], **arguments)
    assert differ(pipe(PROMPT, seed=2, **arguments).images, theirs) <= 1
    # As the catalog has it.
    reference.scheduler = EulerAncestralDiscreteScheduler.from_config(reference.scheduler.config)
    theirs = paint_reference(reference, [2], **arguments)
    assert differ(pipe(PROMPT, seed=2, scheduler="euler_a", **arguments).images, theirs) <= 1


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("scale", [8.5, 1.0])
def test_latent_consistency(both: Any, engine: str, scale: float) -> None:
    from diffusers import LatentConsistencyModelPipeline

    checkpoint, folder = both("tiny-lcm", tiny_lcm, engine)
    reference = LatentConsistencyModelPipeline.from_pretrained(checkpoint)
    theirs = paint_reference(reference, [2], guidance_scale=scale, **SIZE)  # of 4 steps
    # The negative prompt has no say: there is no unguided half.
    ours = opened(folder, engine)(PROMPT, NEGATIVE, seed=2, guidance_scale=scale, **SIZE)
    assert len(ours.timings.steps) == 4
    assert differ(ours.images, theirs) <= 1


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("strength", [0.45, 1.0])
def test_latent_consistency_image_to_image(both: Any, engine: str, strength: float) -> None:
    """All steps are taken, from the timesteps that the strength leaves."""
    from diffusers import LatentConsistencyModelImg2ImgPipeline

    checkpoint, folder = both("tiny-lcm", tiny_lcm, engine)
    reference = LatentConsistencyModelImg2ImgPipeline.from_pretrained(checkpoint)
    arguments = {"image": painting(), "strength": strength, "num_inference_steps": 3}
    theirs = paint_reference(reference, [2], guidance_scale=8.5, **arguments)
    ours = opened(folder, engine)(PROMPT, seed=2, **arguments)
    assert len(ours.timings.steps) == 3
    assert differ(ours.images, theirs) <= 1


def test_its_guidance_scale_counts_and_its_strength_is_checked(both: Any) -> None:
    _, folder = both("tiny-lcm", tiny_lcm, "openvino")
    pipe = opened(folder, "openvino")
    weak, strong = (
        np.asarray(pipe(PROMPT, seed=1, guidance_scale=scale, **SIZE).images[0], int)
        for scale in (1.0, 8.0)
    )
    assert np.abs(weak - strong).max() > 1
    with pytest.raises(SchedulerError, match=r"strength of 0\.05"):
        pipe(PROMPT, image=painting(), strength=0.05)


@pytest.mark.parametrize("width", [256, 33])
def test_the_scale_s_embedding_is_diffusers(width: int) -> None:
    import torch
    from diffusers import LatentConsistencyModelPipeline

    for scale in (1.0, 7.5):
        theirs = LatentConsistencyModelPipeline.get_guidance_scale_embedding(
            None, torch.tensor([scale - 1]), width
        )
        np.testing.assert_allclose(scale_embedding(scale, width), theirs.numpy(), atol=2e-3)
