"""What webui's API makes of its fields, without a server."""

import json

import numpy as np
import pytest
import webuiapi
from PIL import Image
from pydantic import ValidationError

from pictures import hole, painting
from pleinair.runtime.images.canny import canny
from pleinair.runtime.images.fitting import Fit
from pleinair.serve.api.webui import controls, infotext, inpainting, remarks, samplers
from pleinair.serve.api.webui.errors import Unprocessable
from pleinair.serve.api.webui.fields import ImageToImage, TextToImage, Unit
from pleinair.serve.errors import Unknown
from pleinair.serve.settings import Settings

BETAS = {"_class_name": "DDIMScheduler"}
FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler"}
EDM = {"_class_name": "EDMEulerScheduler"}


@pytest.mark.parametrize(
    ("config", "sampler", "spacing", "ours"),
    [
        (BETAS, "Euler a", "automatic", "euler_a"),
        (BETAS, "Euler", "Karras", "euler_karras"),
        (BETAS, "DPM++ 2M", "", "dpmpp_2m_karras"),
        (BETAS, "DPM++ 2M", "Exponential", "dpmpp_2m_exponential"),
        (BETAS, "DPM++ 2M SDE", "Automatic", "dpmpp_2m_sde_exponential"),
        (BETAS, "k_dpmpp_2m", "karras", "dpmpp_2m_karras"),
        (BETAS, "dpmpp_2m_sde", "", "dpmpp_2m_sde"),
        (BETAS, "LMS", "normal", "lms"),
        (FLOW, "Euler", "automatic", "flow_euler"),
        (EDM, "Euler", "", "edm_euler"),
        (EDM, "DPM++ 2M", "uniform", "edm_dpmpp_2m"),
    ],
)
def test_samplers(config: dict[str, str], sampler: str, spacing: str, ours: str) -> None:
    assert samplers.found(config, sampler, spacing) == (ours, True)


def test_a_spacing_that_a_sampler_does_not_have() -> None:
    assert samplers.found(BETAS, "Euler a", "karras") == ("euler_a", False)
    assert samplers.found(BETAS, "Euler", "sgm_uniform") == ("euler", False)


@pytest.mark.parametrize("config", [BETAS, FLOW, EDM])
def test_what_is_listed_is_found(config: dict[str, str]) -> None:
    listed = samplers.listed(config)
    assert listed
    for one in listed:
        spacing = one["options"].get("scheduler", "")
        name, spaced = samplers.found(config, one["name"], "")
        assert spaced
        assert name in {one["aliases"][0], f"{one['aliases'][0]}_{spacing}"}
        assert samplers.shown_name(name).startswith(one["name"])


@pytest.mark.parametrize(("config", "sampler"), [(BETAS, "Nobody"), (FLOW, "Euler a"), (BETAS, "")])
def test_a_sampler_that_is_not_there(config: dict[str, str], sampler: str) -> None:
    with pytest.raises(Unknown, match=r"Sampler not found.*there are: .*Euler"):
        samplers.found(config, sampler, "")


def test_the_masked_part_in_the_shape_that_is_painted() -> None:
    picture, mask = painting(200, 100), Image.new("L", (200, 100), 0)
    mask.paste(255, (180, 40, 196, 60))
    masked = inpainting.only_masked(picture, mask, (128, 64), padding=0, blur=0)
    assert (masked.corner, masked.picture.size) == ((160, 40), (40, 20))  # at the edge, shifted
    masked = inpainting.only_masked(picture, mask, (64, 128), padding=5, blur=0)
    assert (masked.corner, masked.picture.size) == ((175, 25), (25, 50))
    masked = inpainting.only_masked(picture, mask, (64, 64), padding=1000, blur=0)
    assert (masked.corner, masked.picture.size) == ((0, 0), (200, 100))
    painted = Image.new("RGB", masked.picture.size, "red")
    assert masked.finished(painted).getpixel((0, 0)) == (255, 0, 0)


def test_a_mask_that_marks_nothing_is_left_for_the_library_to_refuse() -> None:
    picture, mask = painting(), Image.new("L", (64, 64), 0)
    masked = inpainting.only_masked(picture, mask, (64, 64), padding=0, blur=4)
    assert masked.corner is None
    assert masked.picture is picture


def test_colours_around_spread_into_the_hole() -> None:
    picture = Image.new("RGB", (64, 48), (200, 40, 40))
    picture.paste((40, 40, 200), (32, 0, 64, 48))
    mask = Image.new("L", (64, 48), 0)
    mask.paste(255, (8, 8, 56, 40))
    picture.paste((0, 255, 0), (8, 8, 56, 40))  # of which nothing may be left
    filled = np.asarray(
        inpainting.filled(inpainting.Masked(picture, mask), inpainting.FILL, 0).picture, int
    )
    assert filled[..., 1].max() <= 41
    assert filled[24, 10, 0] > filled[24, 10, 2] + 60  # red from the left, blue from the right
    assert filled[24, 53, 2] > filled[24, 53, 0] + 60
    outside = np.asarray(mask) == 0
    np.testing.assert_array_equal(filled[outside], np.asarray(picture)[outside])


def test_all_is_masked() -> None:
    whole = Image.new("L", (64, 64), 255)
    for way in range(4):
        filled = inpainting.filled(inpainting.Masked(painting(), whole), way, -1)
        assert filled.picture.size == (64, 64)


def test_noise_is_the_seed_s() -> None:
    masked = inpainting.Masked(painting(), hole())
    first, again, other = (
        np.asarray(inpainting.filled(masked, inpainting.NOISE, seed).picture) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def test_webui_s_text_as_fields() -> None:
    text = (
        "a cat, <lora:line:1>\nin two lines\nNegative prompt: dog\nSteps: 20, Sampler: DPM++ 2M, "
        'Schedule type: Karras, CFG scale: 7, Seed: 5, Size: 512x768, Clip skip: 2, Model: "a, b"'
    )
    said = infotext.parameters(text)
    assert said["Prompt"] == "a cat, <lora:line:1>\nin two lines"
    assert (said["Size-1"], said["Size-2"], said["Model"]) == ("512", "768", "a, b")
    request = TextToImage.model_validate({"infotext": text, "steps": 4, "seed": None})
    assert (request.steps, request.seed, request.width, request.height) == (4, 5, 512, 768)
    assert (request.sampler_name, request.scheduler, request.clip_skip) == (
        "DPM++ 2M",
        "Karras",
        2,
    )
    assert request.negative_prompt == "dog"
    assert not request.enable_hr


def test_text_that_is_none() -> None:
    assert TextToImage.model_validate({"infotext": "hello"}).prompt == "hello"
    assert infotext.parameters("")["Prompt"] == ""


def test_fields_that_nobody_knows_are_passed_over() -> None:
    request = TextToImage.model_validate({"prompt": "a", "enable_nothing": [1], "hr_upscaler": "X"})
    assert remarks.unused(request.others, second_pass=False) == []
    assert remarks.unused(request.others, second_pass=True) == ["hr_upscaler X is not used"]


@pytest.mark.parametrize(
    "fields",
    [
        {"steps": "many"},
        {"cfg_scale": float("nan")},
        {"cfg_scale": json.loads("1e999")},
        {"width": 10**400},
        {"seed": 2**70},
        {"n_iter": 0},
        {"styles": "one"},
        {"init_images": []},
    ],
)
def test_fields_out_of_their_range(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ImageToImage.model_validate({"init_images": ["a"], **fields})


def test_units() -> None:
    unit = Unit.model_validate({"input_image": {"image": "abc", "mask": "def"}, "lowvram": True})
    assert unit.image == "abc"
    with pytest.raises(Unprocessable, match="preprocessor 'depth'"):
        controls.module("depth")


def test_units_as_a_call_has_them() -> None:
    settings, followed = Settings(), painting(80, 60)
    units = [
        webuiapi.ControlNetUnit(image=followed, model="lines [12ab]", weight=0.5, control_mode=2),
        webuiapi.ControlNetUnit(model="depth", module="canny", guidance_start=0.1),
        webuiapi.ControlNetUnit(image=followed, model="off", enabled=False),
    ]
    scripts = {"ControlNet": {"args": [unit.to_dict() for unit in units]}}
    control = controls.read(scripts, settings, image=painting(), size=(64, 64))
    assert control.nets == [("lines", 1.0), ("depth", 1.0)]
    first, second = control.arguments.pop("control_image")
    fit = Fit.of((80, 60), (64, 64), "pad")
    np.testing.assert_array_equal(np.asarray(first), np.asarray(fit.lay(followed)))
    edges = canny(np.asarray(painting()), 64, 64)
    np.testing.assert_array_equal(np.asarray(second)[..., 0], edges)
    assert control.arguments == {
        "controlnet_conditioning_scale": [0.5, 1.0],
        "control_guidance_start": [0.0, 0.1],
        "control_guidance_end": [1.0, 1.0],
        "guess_mode": True,
    }
    assert control.remarks == ["control_mode 2 holds for all ControlNets"]
    with pytest.raises(Unprocessable, match="follows a picture"):
        controls.read(scripts, settings, image=None, size=None)
    assert controls.read({"ControlNet": {"args": []}}, settings, image=None, size=None).nets == ()
