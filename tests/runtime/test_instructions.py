"""Editing by instruction is diffusers' StableDiffusionInstructPix2PixPipeline."""

from typing import Any

import numpy as np
import pytest

from checkpoints import tiny_pix2pix
from pictures import hole, painting
from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.errors import SettingError
from references import NEGATIVE, PROMPT, differ, reference_scheduler
from side_by_side import side_by_side

pytestmark = pytest.mark.usefixtures("compiled_once")

checkpoint, reference, folder, pipe = side_by_side(
    "tiny-pix2pix", tiny_pix2pix, "StableDiffusionInstructPix2PixPipeline"
)


def compare(
    ours: StableDiffusionPipeline, theirs: Any, scheduler: str, size: int = 64, **arguments: Any
) -> int:
    import torch

    picture = painting(size, 64)
    theirs.scheduler = reference_scheduler(scheduler, ours.bundle.scheduler)
    arguments = {"num_inference_steps": 5, **arguments}
    expected = theirs(
        PROMPT,
        image=picture,
        negative_prompt=NEGATIVE,
        generator=torch.Generator("cpu").manual_seed(3),
        **arguments,
    ).images
    painted = ours(PROMPT, NEGATIVE, image=picture, seed=3, scheduler=scheduler, **arguments)
    return differ(painted.images, np.stack([np.asarray(image) for image in expected]))


@pytest.mark.parametrize(
    "scheduler",
    ["ddim", "ddpm", "plms", "lms", "euler", "euler_a", "heun", "lcm", "unipc", "dpmpp_2m"],
)
def test_every_solver(pipe: StableDiffusionPipeline, reference: Any, scheduler: str) -> None:
    assert compare(pipe, reference, scheduler) <= 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"guidance_scale": 7.5, "image_guidance_scale": 1.5},
        {"guidance_scale": 3.0, "image_guidance_scale": 2.2},
        {"guidance_scale": 7.5, "image_guidance_scale": 1.0},
        # diffusers' conditions for no guidance at all, one after the other.
        {"guidance_scale": 7.5, "image_guidance_scale": 0.9},
        {"guidance_scale": 1.0, "image_guidance_scale": 1.5},
        {"size": 83},
        {"eta": 0.5},
    ],
    ids=str,
)
def test_every_argument(
    pipe: StableDiffusionPipeline, reference: Any, arguments: dict[str, Any]
) -> None:
    assert compare(pipe, reference, "ddim", **arguments) <= 1


def test_both_scales_matter(pipe: StableDiffusionPipeline) -> None:
    arguments = {"image": painting(), "seed": 1, "num_inference_steps": 2, "scheduler": "ddim"}
    images = [
        np.asarray(pipe("boat", guidance_scale=a, image_guidance_scale=b, **arguments).images[0])
        for a, b in ((5.0, 1.5), (7.0, 1.5), (5.0, 2.5))
    ]
    assert not np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "tiny-pix2pix edits pictures by instruction: give image"),
        ({"image": painting(), "mask_image": hole()}, "leave mask_image out"),
        ({"image": painting(), "strength": 0.5}, "has no strength"),
        ({"image": painting(), "image_guidance_scale": -1.0}, "image_guidance_scale is -1"),
        ({"image": painting(), "image_guidance_scale": float("nan")}, "image_guidance_scale is"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_are_one_line(
    pipe: StableDiffusionPipeline, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingError, match=message) as caught:
        pipe("boat", **arguments)
    assert "\n" not in str(caught.value)
