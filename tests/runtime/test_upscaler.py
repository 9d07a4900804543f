"""The x4 upscaler is diffusers' StableDiffusionUpscalePipeline."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from checkpoints import tiny_upscaler
from checkpoints_xl import rewrite
from pictures import hole, painting
from pleinair.export import export_model
from pleinair.runtime import StableDiffusionPipeline, families
from pleinair.runtime.cli import main
from pleinair.runtime.errors import BundleError, SettingError, SourceError
from pleinair.runtime.schedulers.ddpm import DDPM
from references import NEGATIVE, PROMPT, differ, reference_scheduler
from side_by_side import side_by_side

pytestmark = pytest.mark.usefixtures("compiled_once")

checkpoint, reference, folder, pipe = side_by_side(
    "tiny-upscaler", tiny_upscaler, "StableDiffusionUpscalePipeline"
)


def compare(
    ours: StableDiffusionPipeline,
    theirs: Any,
    scheduler: str,
    size: tuple[int, int] = (16, 16),
    vae_tiling: str = "off",
    **arguments: Any,
) -> int:
    import torch

    picture = painting(*size)
    theirs.scheduler = reference_scheduler(scheduler, ours.bundle.scheduler)
    arguments = {"num_inference_steps": 3, "guidance_scale": 9.0, **arguments}
    expected = theirs(
        PROMPT,
        image=picture,
        negative_prompt=NEGATIVE,
        generator=torch.Generator("cpu").manual_seed(3),
        **arguments,
    ).images
    arguments.update(seed=3, scheduler=scheduler, vae_tiling=vae_tiling)
    painted = ours(PROMPT, NEGATIVE, image=picture, **arguments)
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
        {"noise_level": 0},
        {"noise_level": 350},
        {"guidance_scale": 1.0},
        {"eta": 0.5},
        {"size": (23, 17)},  # rounded down to 20 x 16, by diffusers' bicubic filter
    ],
    ids=str,
)
def test_every_argument(
    pipe: StableDiffusionPipeline, reference: Any, arguments: dict[str, Any]
) -> None:
    assert compare(pipe, reference, "ddim", **arguments) <= 1


def test_decoding_in_tiles_is_diffusers_too(pipe: StableDiffusionPipeline, reference: Any) -> None:
    reference.vae.enable_tiling()
    try:
        size = (20, 12)  # tiles of 8 cells: of four shapes, some narrow
        assert compare(pipe, reference, "ddim", size=size, vae_tiling="on") <= 1
        assert compare(pipe, reference, "ddim", size=size, vae_tiling="off") > 1
    finally:
        reference.vae.disable_tiling()


def test_what_the_folder_says(folder: Path) -> None:
    family = families.open_model(folder)
    assert (family.task, family.in_channels, family.space.factor) == ("upscaling", 7, 4)
    assert (family.space.scale, family.most_noise) == (0.08333, 350)
    assert isinstance(family.low_res_scheduler, DDPM)


def test_in_tiles_nothing_is_larger_than_a_tile(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(folder, engine="openvino", profile="exact")
    seen: list[tuple[int, ...]] = []
    compiled = pipe.engine.compile

    def watched(path: Path, shapes: Any, *others: Any) -> Any:
        seen.extend(tuple(shape)[2:] for shape in shapes.values() if len(shape) == 4)
        return compiled(path, shapes, *others)

    monkeypatch.setattr(pipe.engine, "compile", watched)
    arguments = {"image": painting(20, 12), "seed": 1, "num_inference_steps": 2}
    image = pipe("boat", tile=32, tile_overlap=16, **arguments).images[0]
    assert image.size == (80, 48)
    assert set(seen) == {(8, 8)}  # of the UNet and of the decoder alike


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "makes a picture larger: give image"),
        ({"image": painting(16, 16), "mask_image": hole(16, 16)}, "leave out mask_image"),
        ({"image": painting(16, 16), "strength": 0.5}, "leave out mask_image and strength"),
        ({"image": painting(16, 16), "noise_level": -1}, r"noise_level is -1; .* 0 to 350"),
        ({"image": painting(16, 16), "noise_level": 351}, "noise_level is 351"),
        ({"image": painting(16, 16), "noise_level": 2.5}, r"noise_level is 2\.5"),
        ({"image": painting(16, 16), "width": 40}, "width is 40; give a multiple of 16"),
        ({"image": painting(3, 16)}, "3x16 pixels"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_are_one_line(
    pipe: StableDiffusionPipeline, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingError, match=message) as caught:
        pipe("boat", **arguments)
    assert "\n" not in str(caught.value)


def test_it_enlarges_in_its_own_way_alone(pipe: StableDiffusionPipeline) -> None:
    with pytest.raises(SettingError, match="made for upscaling"):
        pipe.enlarge(painting(), "boat")


def test_from_the_command_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    painting(16, 12).save("small.png")
    command = ["--model", str(folder), "--init-img", "small.png", "--engine", "openvino"]
    first = ["--prompt", "boat", "--steps", "2", "--seed", "5", "--noise-level", "30"]
    assert main([*command, *first, "--output", "large.png"]) == 0
    assert Image.open("large.png").size == (64, 48)
    assert main([*command, "--params-from", "large.png", "--output", "again.png"]) == 0
    assert np.array_equal(Image.open("again.png"), Image.open("large.png"))


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("unet", {"num_class_embeds": None}, "no noise level"),
        ("unet", {"in_channels": 4}, "takes 4 channels.* upscalers: 7"),
        ("low_res_scheduler", None, "an upscaler needs it"),
    ],
)
def test_a_folder_that_is_no_whole_upscaler(
    folder: Path, tmp_path: Path, part: str, change: dict[str, Any] | None, message: str
) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "pleinair.json").unlink()
    if change is None:
        shutil.rmtree(other / part)
    else:
        rewrite(other / part / "config.json", **change)
    with pytest.raises(BundleError, match=message):
        families.open_model(other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_class_embeds": None}, "num_class_embeds"),
        ({"in_channels": 9}, "takes 9 channels; an upscaler's takes 7"),
    ],
)
def test_a_checkpoint_that_cannot_be_exported(
    checkpoint: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    other = shutil.copytree(checkpoint, tmp_path / "other")
    rewrite(other / "unet" / "config.json", **change)
    with pytest.raises(SourceError, match=message):
        export_model(other, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_without_its_second_scheduler(checkpoint: Path, tmp_path: Path) -> None:
    other = shutil.copytree(checkpoint, tmp_path / "other")
    shutil.rmtree(other / "low_res_scheduler")
    with pytest.raises(SourceError, match=r"low_res_scheduler.*missing"):
        export_model(other, tmp_path / "out")
