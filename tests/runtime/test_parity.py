"""The exact profile paints diffusers' picture: same seed, same scheduler, at most 1/255 off."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pleinair.runtime import StableDiffusionPipeline, schedulers
from references import (
    NEGATIVE,
    PROMPT,
    SCHEDULERS,
    differ,
    paint_reference,
    reference_scheduler,
)

pytestmark = pytest.mark.usefixtures("compiled_once")


def test_every_scheduler_has_a_reference() -> None:
    for name in schedulers.names({"_class_name": "PNDMScheduler"}):
        base = name.removesuffix("_karras").removesuffix("_exponential")
        assert base in SCHEDULERS


@pytest.mark.parametrize("name", schedulers.names({"_class_name": "PNDMScheduler"}))
def test_every_scheduler(
    pipe: StableDiffusionPipeline, reference: Any, config: Any, name: str
) -> None:
    reference.scheduler = reference_scheduler(name, config)
    arguments = {"num_inference_steps": 6, "guidance_scale": 7.5, "width": 64, "height": 64}
    theirs = paint_reference(reference, [3], negative_prompt=NEGATIVE, **arguments)
    ours = pipe(PROMPT, NEGATIVE, seed=3, scheduler=name, **arguments)
    assert differ(ours.images, theirs) <= 1


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"guidance_scale": 1.0}, {"guidance_scale": 1.0}),
        ({"guidance_scale": 0.0}, {"guidance_scale": 0.0}),
        ({"guidance_rescale": 0.7}, {"guidance_rescale": 0.7}),
        ({"guidance_rescale": 1}, {"guidance_rescale": 1.0}),
        ({"scheduler": "ddim", "eta": 0.7}, {"eta": 0.7}),
        ({"clip_skip": 1}, {"clip_skip": 1}),
        ({"clip_skip": 2}, {"clip_skip": 2}),
        ({"width": 96, "height": 64}, {"width": 96, "height": 64}),
        ({"width": 72, "height": 104}, {"width": 72, "height": 104}),
        ({"num_inference_steps": 1}, {"num_inference_steps": 1}),
    ],
    ids=str,
)
def test_every_argument(
    pipe: StableDiffusionPipeline, reference: Any, config: Any, ours: Any, theirs: Any
) -> None:
    reference.scheduler = reference_scheduler("ddim", config)
    common = {"num_inference_steps": 5, "width": 64, "height": 64}
    expected = paint_reference(reference, [11], negative_prompt=NEGATIVE, **{**common, **theirs})
    painted = pipe(PROMPT, NEGATIVE, **{"seed": 11, "scheduler": "ddim", **common, **ours})
    assert differ(painted.images, expected) <= 1


def test_tcd_draws_its_noise_as_diffusers_does(
    pipe: StableDiffusionPipeline, reference: Any, config: Any
) -> None:
    reference.scheduler = reference_scheduler("tcd", config)
    few = {"num_inference_steps": 4, "guidance_scale": 1.0, "eta": 0.3, "width": 64, "height": 64}
    theirs = paint_reference(reference, [3], **few)
    assert differ(pipe(PROMPT, seed=3, scheduler="tcd", **few).images, theirs) <= 1


def test_a_batch_is_diffusers_batch_of_seeds(
    pipe: StableDiffusionPipeline, reference: Any, config: Any
) -> None:
    reference.scheduler = reference_scheduler("euler_a", config)
    arguments = {"num_inference_steps": 4, "width": 64, "height": 64, "guidance_scale": 5.0}
    expected = paint_reference(reference, [7, 8, 9], **arguments)
    painted = pipe(PROMPT, seed=7, num_images_per_prompt=3, scheduler="euler_a", **arguments)
    assert painted.seeds == [7, 8, 9]
    assert differ(painted.images, expected) <= 1


def test_each_prompt_has_its_negative(
    pipe: StableDiffusionPipeline, reference: Any, config: Any
) -> None:
    import torch

    reference.scheduler = reference_scheduler("ddim", config)
    texts = {"prompt": [PROMPT, "a boat"], "negative_prompt": [NEGATIVE, "rain, fog"]}
    arguments = {"num_inference_steps": 4, "width": 64, "height": 64}
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in (7, 8)]
    theirs = reference(**texts, **arguments, generator=generators).images
    ours = pipe(**texts, **arguments, seed=7, scheduler="ddim").images
    assert differ(ours, np.stack([np.asarray(image) for image in theirs])) <= 1


def test_v_prediction(tmp_path: Path, traced_once: None) -> None:
    """Stable Diffusion 2's kind of model, trained to predict the velocity."""
    from diffusers import StableDiffusionPipeline as Diffusers

    from checkpoints import tiny_stable_diffusion
    from pleinair.export import export_model

    checkpoint = tiny_stable_diffusion(
        tmp_path / "checkpoint", prediction_type="v_prediction", old_keys=False
    )
    folder = export_model(checkpoint, tmp_path / "model", precision="fp32")
    reference = Diffusers.from_pretrained(checkpoint)
    arguments = {"num_inference_steps": 5, "width": 64, "height": 64}
    theirs = paint_reference(reference, [2], **arguments)
    ours = StableDiffusionPipeline.from_pretrained(folder, profile="exact")(
        PROMPT, seed=2, **arguments
    )
    assert differ(ours.images, theirs) <= 1
