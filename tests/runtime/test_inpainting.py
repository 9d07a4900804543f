"""Inpainting is diffusers' inpainting pipeline, with ordinary UNets and those of 9 channels."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from checkpoints import tiny_inpainting
from pictures import hole, painting
from pleinair.runtime import StableDiffusionPipeline, families
from pleinair.runtime.errors import SettingError
from references import NEGATIVE, PROMPT, differ, reference_scheduler

pytestmark = pytest.mark.usefixtures("compiled_once")

Pair = tuple[StableDiffusionPipeline, Any]

SOLVERS = (
    *("ddim", "ddpm", "plms", "lms", "euler", "euler_a", "heun", "lcm", "unipc"),
    *("dpmpp_2m", "dpmpp_2m_karras", "dpmpp_2m_sde", "dpmpp_2s"),
)
COMMON: dict[str, Any] = {
    "num_inference_steps": 5,
    "guidance_scale": 5.0,
    "width": 64,
    "height": 64,
}


def inpainting_reference(components: dict[str, Any]) -> Any:
    from diffusers import StableDiffusionInpaintPipeline

    pipe = StableDiffusionInpaintPipeline(**components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def ordinary(reference: Any) -> Any:
    return inpainting_reference(reference.components)


@pytest.fixture(scope="module")
def nine_channels(made: Any) -> Path:
    return made("checkpoint/tiny-inpainting", tiny_inpainting)


@pytest.fixture(scope="module")
def made_for_it(nine_channels: Path) -> Any:
    from diffusers import StableDiffusionInpaintPipeline

    pipe = StableDiffusionInpaintPipeline.from_pretrained(nine_channels)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def nine_channel_folder(both: Any) -> Path:
    return both("tiny-inpainting", tiny_inpainting, "openvino")[1]


@pytest.fixture(scope="module", params=["openvino", "onnxruntime"])
def nine_channel_pipe(request: pytest.FixtureRequest, both: Any) -> StableDiffusionPipeline:
    _, folder = both("tiny-inpainting", tiny_inpainting, request.param)
    return StableDiffusionPipeline.from_pretrained(
        folder, engine=request.param, device="cpu", profile="exact"
    )


@pytest.fixture(scope="module", params=["ordinary", "made_for_it"])
def pair(
    request: pytest.FixtureRequest, exported_openvino: Path, nine_channel_folder: Path
) -> Pair:
    """Ours and diffusers' for either kind of UNet."""
    folder = exported_openvino if request.param == "ordinary" else nine_channel_folder
    ours = StableDiffusionPipeline.from_pretrained(folder, engine="openvino", profile="exact")
    return ours, request.getfixturevalue(request.param)


def compare(
    ours: StableDiffusionPipeline,
    theirs: Any,
    scheduler: str,
    *,
    mask: Image.Image | None = None,
    their_mask: Image.Image | None = None,
    options: dict[str, Any] | None = None,
    **arguments: Any,
) -> int:
    import torch

    mask = mask or hole()
    theirs.scheduler = reference_scheduler(scheduler, ours.bundle.scheduler)
    expected = theirs(
        PROMPT,
        image=painting(),
        mask_image=their_mask or mask,
        negative_prompt=NEGATIVE,
        generator=torch.Generator("cpu").manual_seed(3),
        **{**COMMON, **arguments},
    ).images
    painted = ours(
        PROMPT,
        NEGATIVE,
        image=painting(),
        mask_image=mask,
        seed=3,
        scheduler=scheduler,
        **{**COMMON, **arguments, **(options or {})},
    )
    return differ(painted.images, np.stack([np.asarray(image) for image in expected]))


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("scheduler", SOLVERS)
def test_an_ordinary_unet(
    pipe: StableDiffusionPipeline, ordinary: Any, scheduler: str, strength: float
) -> None:
    assert compare(pipe, ordinary, scheduler, strength=strength) <= 1


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("scheduler", SOLVERS)
def test_a_unet_of_nine_channels(
    nine_channel_pipe: StableDiffusionPipeline, made_for_it: Any, scheduler: str, strength: float
) -> None:
    assert compare(nine_channel_pipe, made_for_it, scheduler, strength=strength) <= 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"guidance_scale": 1.0},
        {"width": 72, "height": 104},
        {"eta": 0.5},
        {"num_inference_steps": 1},
        # diffusers' own default is the same.
        {"options": {"strength": None}},
        {"mask": ImageOps.invert(hole()), "their_mask": hole(), "options": {"mask_invert": True}},
    ],
    ids=lambda arguments: ",".join(arguments),
)
def test_every_argument(pair: Pair, arguments: dict[str, Any]) -> None:
    assert compare(*pair, "ddim", **arguments) <= 1


def test_a_blurred_mask(pair: Pair) -> None:
    blurred = pair[1].mask_processor.blur(hole(), 6)
    assert compare(*pair, "ddim", their_mask=blurred, options={"mask_blur": 6.0}) <= 1


def test_the_mask_from_the_picture_s_alpha(pipe: StableDiffusionPipeline) -> None:
    cut = painting().convert("RGBA")
    cut.putalpha(ImageOps.invert(hole()))
    arguments = {**COMMON, "seed": 1, "scheduler": "ddim", "strength": 0.8}
    flat = Image.alpha_composite(Image.new("RGBA", cut.size, "white"), cut).convert("RGB")
    by_alpha = pipe("boat", image=cut, mask_image="alpha", **arguments).images[0]
    by_file = pipe("boat", image=flat, mask_image=hole(), **arguments).images[0]
    assert np.array_equal(by_alpha, by_file)


def test_what_is_not_masked_comes_back_bit_for_bit(pair: Pair, tmp_path: Path) -> None:
    """At the picture's own size, 75x82, though 72x80 is painted; from files."""
    pipe = pair[0]
    picture, mask = tmp_path / "picture.png", tmp_path / "mask.png"
    painting(75, 82).save(picture)
    hole(75, 82).save(mask)
    arguments: dict[str, Any] = {"seed": 1, "num_inference_steps": 2, "scheduler": "ddim"}
    arguments |= {"image": picture, "mask_image": mask, "keep_unmasked": True}
    found = np.asarray(pipe("boat", **arguments).images[0])
    original, outside = np.asarray(painting(75, 82)), np.asarray(hole(75, 82)) == 0
    assert found.shape == original.shape
    assert np.array_equal(found[outside], original[outside])
    assert np.abs(found[~outside].astype(int) - original[~outside]).mean() > 10
    floats = pipe("boat", output_type="np", **arguments).images[0]
    assert np.array_equal(np.rint(floats * 255), found)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mask_image": Image.new("L", (64, 64), 0)}, "marks nothing"),
        ({"mask_image": Image.new("L", (64, 64), 255), "mask_invert": True}, "marks nothing"),
        ({"mask_image": "alpha"}, "no transparent part"),
        ({"mask_image": "no/such.png"}, "no such picture"),
        ({"mask_image": hole(), "mask_blur": -1.0}, "mask_blur"),
        ({"mask_image": hole(), "keep_unmasked": True, "output_type": "latent"}, "keep_unmasked"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_useless_masks(
    pipe: StableDiffusionPipeline, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingError, match=message) as caught:
        pipe("boat", image=painting(), **arguments)
    assert "\n" not in str(caught.value)


def test_the_export_says_what_it_is(nine_channel_folder: Path) -> None:
    index = json.loads((nine_channel_folder / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionInpaintPipeline"
    family = families.open_model(nine_channel_folder)
    assert (family.task, family.in_channels) == ("inpainting", 9)


@pytest.mark.parametrize("arguments", [{}, {"image": painting()}], ids=["neither", "no mask"])
def test_what_the_model_needs_is_said(
    nine_channel_pipe: StableDiffusionPipeline, arguments: dict[str, Any]
) -> None:
    with pytest.raises(SettingError, match="tiny-inpainting is a model for inpainting: give"):
        nine_channel_pipe("boat", **arguments)
