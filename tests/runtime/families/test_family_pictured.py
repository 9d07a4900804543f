"""Families that see a picture beside the latents: upscalers, and editing by instruction."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fakes import controlnet, instruction_folder, opened, upscaler_folder
from pleinair.runtime.denoise.guidance import CONDITIONAL, PICTURE_ALONE, UNCONDITIONAL
from pleinair.runtime.denoise.noise import TorchNoise
from pleinair.runtime.denoise.posterior import Posterior
from pleinair.runtime.denoise.start import Draws
from pleinair.runtime.errors import BundleError, SettingError
from pleinair.runtime.families import open_model
from pleinair.runtime.families.instruction import BesidePicture, InstructionOptions
from pleinair.runtime.families.upscaler import UpscalerOptions, Upscaling
from pleinair.runtime.options.groups import Picture
from pleinair.runtime.schedulers import from_config

SMALL = Image.new("RGB", (16, 12), (10, 200, 30))
MASKED = Picture(image=SMALL, mask_image=SMALL)


@pytest.fixture
def upscaler(tmp_path: Path) -> Any:
    return open_model(upscaler_folder(tmp_path / "up"))


@pytest.fixture
def instruction(tmp_path: Path) -> Any:
    return open_model(instruction_folder(tmp_path / "edit"))


def euler() -> Any:
    made = from_config({"_class_name": "EulerDiscreteScheduler"})
    made.set_timesteps(4)
    return made


def test_an_upscaler_paints_a_vae_factor_larger(upscaler: Any) -> None:
    assert (upscaler.upscales, upscaler.multiple) == (4, 16)
    assert upscaler.space.scale == 0.08333  # whatever the folder says
    inputs = upscaler.denoiser_inputs(2, 64, 48)
    assert inputs["sample"] == (2, 7, 12, 16)
    assert inputs["class_labels"] == (2,)
    assert not upscaler.encodes_pictures
    assert upscaler.example_pictures(64)["image"].size == (16, 16)


@pytest.mark.parametrize(
    ("asked", "level", "message"),
    [
        (Picture(), None, "up makes a picture larger: give image"),
        (MASKED, None, "leave out mask_image and strength; noise_level says"),
        (Picture(image=SMALL, strength=0.5), None, "leave out mask_image and strength"),
        (Picture(image=SMALL), 351, "noise_level is 351; give a whole number from 0 to 350"),
        (Picture(image=SMALL), -1, "noise_level is -1"),
        (Picture(image=SMALL), 1.5, r"noise_level is 1\.5"),
    ],
)
def test_what_an_upscaler_is_not_asked(
    upscaler: Any, asked: Picture, level: Any, message: str
) -> None:
    upscaler.check_call(Picture(image=SMALL), UpscalerOptions(noise_level=350))
    with pytest.raises(SettingError, match=message):
        upscaler.check_call(asked, UpscalerOptions(noise_level=level))


@pytest.mark.parametrize(
    ("index", "unet", "most"),
    [
        ({}, {}, 350),
        ({"max_noise_level": 100}, {}, 100),
        ({}, {"num_class_embeds": 11}, 10),
    ],
)
def test_the_noise_level_it_knows(
    index: dict[str, int], unet: dict[str, int], most: int, tmp_path: Path
) -> None:
    pipe = opened(upscaler_folder(tmp_path / "up", index=index, unet=unet))
    assert pipe.family.most_noise == most
    plan = pipe.plan("tree", image=SMALL)
    told = pipe.family.extra_inputs(plan.settings, CONDITIONAL)["class_labels"]
    assert told.tolist() == [min(20, most)]
    plan = pipe.plan("tree", image=SMALL, noise_level=most)
    assert pipe.family.extra_inputs(plan.settings, UNCONDITIONAL)["class_labels"].tolist() == [most]


def test_the_small_picture_is_noised_before_the_latents_are_drawn(upscaler: Any) -> None:
    """In diffusers' order of drawing; the noise on it is that of its own scheduler."""
    picture = np.full((1, 3, 12, 16), 0.5, np.float32)
    low_res = upscaler.low_res_scheduler
    scheduler = euler()
    origin = Upscaling(picture, noise_level=20, low_res_scheduler=low_res, latent_channels=4)
    start = origin.begin(scheduler, Draws(TorchNoise(3)))
    stream = TorchNoise(3)
    noise = stream.normal(picture.shape)
    np.testing.assert_allclose(start.beside, low_res.add_noise(picture, noise, 20), rtol=1e-6)
    latents = stream.normal((1, 4, 12, 16)) * np.float32(scheduler.init_noise_sigma)
    np.testing.assert_array_equal(start.latents, latents)
    assert start.beside.dtype == np.float32
    assert start.first == 0


def test_an_upscaler_needs_its_second_scheduler(tmp_path: Path) -> None:
    folder = upscaler_folder(tmp_path / "up")
    (folder / "low_res_scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(BundleError, match="an upscaler needs it"):
        open_model(folder)


def test_an_upscaler_without_noise_levels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="takes no noise level"):
        open_model(upscaler_folder(tmp_path / "up", unet={"num_class_embeds": None}))


def test_editing_has_three_branches_and_a_scale_for_the_picture(instruction: Any) -> None:
    usual = instruction.guidance(7.5, InstructionOptions())
    assert usual.branches == (CONDITIONAL, PICTURE_ALONE, UNCONDITIONAL)
    ones = {
        branch: np.full((1, 1, 1, 1), i, np.float32)
        for i, branch in enumerate((UNCONDITIONAL, PICTURE_ALONE, CONDITIONAL))
    }
    assert usual.combine(ones).item() == 7.5 * (2 - 1) + 1.5 * (1 - 0)
    other = instruction.guidance(7.5, InstructionOptions(image_guidance_scale=2))
    assert other.combine(ones).item() == 7.5 + 2


def test_what_is_edited_lies_beside_noise_unscaled(instruction: Any) -> None:
    mean = np.full((1, 4, 3, 5), 0.5, np.float32)
    origin = BesidePicture(Posterior(mean, np.ones_like(mean), instruction.space))
    scheduler = euler()
    start = origin.begin(scheduler, Draws(TorchNoise(3)))
    assert start.beside is mean
    expected = TorchNoise(3).normal(mean.shape) * np.float32(scheduler.init_noise_sigma)
    np.testing.assert_array_equal(start.latents, expected)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Picture(), "edit edits pictures by instruction: give image"),
        (MASKED, "edits whole pictures: leave mask_image out"),
        (Picture(image=SMALL, strength=0.5), "image_guidance_scale says how much of the picture"),
    ],
)
def test_what_an_editor_is_not_asked(instruction: Any, asked: Picture, message: str) -> None:
    instruction.check_call(Picture(**instruction.example_pictures(64)), InstructionOptions())
    with pytest.raises(SettingError, match=message):
        instruction.check_call(asked, InstructionOptions())


def test_no_controlnet_is_for_an_editor(instruction: Any, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="which knows no ControlNets"):
        instruction.check_controlnet(controlnet({}))


@pytest.mark.parametrize("make", [upscaler_folder, instruction_folder])
def test_all_steps_are_taken_whatever_the_picture(make: Any, tmp_path: Path) -> None:
    pipe = opened(make(tmp_path / "tree"))
    plan = pipe.plan("tree", image=Image.new("RGB", (16, 16)), num_inference_steps=5)
    assert plan.timesteps == range(5)
    with pytest.raises(SettingError, match="only a model that paints from text alone can enlarge"):
        pipe.plan("tree", image=SMALL, enlarge=2)
