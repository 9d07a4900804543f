"""Image to image is diffusers' Img2Img pipeline: same seed, every scheduler, at most 1/255 off."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pictures import hole, painting
from pleinair.runtime import StableDiffusionPipeline, schedulers
from pleinair.runtime.denoise.noise import TorchNoise
from pleinair.runtime.denoise.posterior import Posterior
from pleinair.runtime.errors import BundleError, SettingError
from pleinair.runtime.model.latent_space import LatentSpace
from references import NEGATIVE, PROMPT, differ, reference_scheduler

pytestmark = pytest.mark.usefixtures("compiled_once")


COMMON: dict[str, Any] = {"num_inference_steps": 6, "guidance_scale": 7.5, "strength": 0.6}


@pytest.fixture(scope="module")
def image_to_image(reference: Any) -> Any:
    from diffusers import StableDiffusionImg2ImgPipeline

    pipe = StableDiffusionImg2ImgPipeline(**reference.components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def paint_reference(image_to_image: Any, seeds: list[int], **arguments: Any) -> np.ndarray:
    """One image a call: what diffusers paints from a list of seeds is tested for itself."""
    import torch

    images = []
    for seed in seeds:
        generator = torch.Generator("cpu").manual_seed(seed)
        arguments.setdefault("negative_prompt", NEGATIVE)
        images += image_to_image(PROMPT, generator=generator, **arguments).images
    return np.stack([np.asarray(image) for image in images])


@pytest.mark.parametrize("name", schedulers.names({"_class_name": "PNDMScheduler"}))
def test_every_scheduler(
    pipe: StableDiffusionPipeline, image_to_image: Any, config: Any, name: str
) -> None:
    image_to_image.scheduler = reference_scheduler(name, config)
    theirs = paint_reference(image_to_image, [3], image=painting(), **COMMON)
    ours = pipe(PROMPT, NEGATIVE, image=painting(), seed=3, scheduler=name, **COMMON)
    assert differ(ours.images, theirs) <= 1


@pytest.mark.parametrize("scheduler", ["ddim", "plms", "heun", "euler_a", "dpmpp_2m_karras"])
@pytest.mark.parametrize("strength", [0.2, 0.4, 0.55, 1.0])
def test_every_strength(
    pipe: StableDiffusionPipeline,
    image_to_image: Any,
    config: Any,
    scheduler: str,
    strength: float,
) -> None:
    image_to_image.scheduler = reference_scheduler(scheduler, config)
    arguments = {"num_inference_steps": 5, "strength": strength}
    theirs = paint_reference(image_to_image, [3], image=painting(), **arguments)
    ours = pipe(PROMPT, NEGATIVE, image=painting(), seed=3, scheduler=scheduler, **arguments)
    assert differ(ours.images, theirs) <= 1


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"guidance_scale": 1.0}, {"guidance_scale": 1.0}),
        ({"eta": 0.7}, {"eta": 0.7}),
        ({"clip_skip": 1}, {"clip_skip": 1}),
        ({"strength": None}, {"strength": 0.8}),
    ],
    ids=str,
)
def test_every_argument(
    pipe: StableDiffusionPipeline, image_to_image: Any, config: Any, ours: Any, theirs: Any
) -> None:
    image_to_image.scheduler = reference_scheduler("ddim", config)
    expected = paint_reference(image_to_image, [11], image=painting(), **{**COMMON, **theirs})
    arguments = {"seed": 11, "scheduler": "ddim", **COMMON, **ours}
    painted = pipe(PROMPT, NEGATIVE, image=painting(), **arguments)
    assert differ(painted.images, expected) <= 1


def test_the_picture_s_own_size(
    pipe: StableDiffusionPipeline, image_to_image: Any, config: Any
) -> None:
    image_to_image.scheduler = reference_scheduler("ddim", config)
    theirs = paint_reference(image_to_image, [3], image=painting(75, 82), **COMMON)
    assert theirs.shape == (1, 80, 72, 3)
    ours = pipe(PROMPT, NEGATIVE, image=painting(75, 82), seed=3, scheduler="ddim", **COMMON)
    assert differ(ours.images, theirs) <= 1


def test_a_batch_of_seeds(pipe: StableDiffusionPipeline, image_to_image: Any, config: Any) -> None:
    import torch

    image_to_image.scheduler = reference_scheduler("euler_a", config)
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in (7, 8)]
    expected = image_to_image(
        PROMPT, image=painting(), num_images_per_prompt=2, generator=generators, **COMMON
    ).images
    painted = pipe(
        PROMPT, image=painting(), seed=7, num_images_per_prompt=2, scheduler="euler_a", **COMMON
    )
    assert painted.seeds == [7, 8]
    assert differ(painted.images, np.stack([np.asarray(image) for image in expected])) <= 1


def test_files_and_arrays_are_pictures_too(pipe: StableDiffusionPipeline, tmp_path: Path) -> None:
    path = tmp_path / "painting.png"
    painting().save(path)
    arguments = {"seed": 1, "scheduler": "ddim", **COMMON}
    expected = np.asarray(pipe("boat", image=painting(), **arguments).images[0])
    for source in (path, str(path), np.asarray(painting()), np.asarray(painting()) / 255):
        assert np.array_equal(pipe("boat", image=source, **arguments).images[0], expected)


def test_sizes_and_ways(pipe: StableDiffusionPipeline) -> None:
    arguments = {"seed": 1, "scheduler": "ddim", "width": 72, "height": 64, **COMMON}
    images = [
        np.asarray(pipe("boat", image=painting(90, 40), resize=way, **arguments).images[0])
        for way in ("stretch", "crop", "pad")
    ]
    for i, image in enumerate(images):
        assert image.shape == (64, 72, 3)
        assert not np.array_equal(image, images[i - 1])


def test_each_image_can_be_painted_alone(pipe: StableDiffusionPipeline) -> None:
    arguments = {"image": painting(), "scheduler": "euler_a", **COMMON}
    batch = pipe("boat", seed=4, num_images_per_prompt=2, **arguments)
    alone = pipe("boat", seed=5, **arguments)
    assert np.array_equal(batch.images[1], alone.images[0])


def test_stages_and_steps(pipe: StableDiffusionPipeline) -> None:
    told: list[tuple[str, int, int]] = []
    seen: list[int] = []
    output = pipe(
        "boat",
        image=painting(),
        seed=1,
        num_inference_steps=10,
        strength=0.35,
        scheduler="ddim",
        callback_on_stage=lambda *stage: told.append(stage),
        callback_on_step_end=lambda pipe, step, t, shown: seen.append(step),
    )
    assert seen == [0, 1, 2]
    assert len(output.timings.steps) == 3
    for stage in ("load", "encode", "denoise", "decode"):
        done = [done for name, done, _ in told if name == stage]
        totals = {total for name, _, total in told if name == stage}
        assert done == sorted(done)
        assert [done[-1]] == list(totals)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": painting(), "strength": 0}, "strength is 0;"),
        ({"image": painting(), "strength": 1.1}, "strength is 1.1"),
        ({"image": painting(), "strength": float("nan")}, "strength is nan"),
        ({"image": painting(), "strength": 0.1}, "of 6 steps that leaves none"),
        ({"image": painting(5, 5)}, "5x5"),
        ({"image": painting(), "image_guidance_scale": 1.5}, "edit by instruction"),
        ({"image": painting(), "resize": "squeeze"}, "stretch, crop, pad"),
        ({"image": "no/such.png"}, "no such picture"),
        ({"image": b"bytes"}, "image: not a picture that can be read"),
        ({"strength": 0.5}, "give image"),
        ({"mask_image": hole()}, "give image"),
        ({"image": painting(), "mask_invert": True}, "give mask_image"),
        ({"image": painting(), "keep_unmasked": True}, "give mask_image"),
        ({"latents": np.zeros((1, 4, 9, 9), np.float32), "image": painting()}, "latents"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_are_one_line(
    pipe: StableDiffusionPipeline, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingError, match=message) as caught:
        pipe("boat", **{"num_inference_steps": 6, **arguments})
    assert "\n" not in str(caught.value)


def test_the_posterior_is_diffusers_distribution() -> None:
    import torch
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    encoded = np.random.default_rng(0).normal(0, 20, (1, 8, 8, 8)).astype(np.float32)
    theirs = DiagonalGaussianDistribution(torch.from_numpy(encoded))
    drawn = theirs.sample(torch.Generator("cpu").manual_seed(5)).numpy()
    ours = Posterior.of(encoded, LatentSpace())
    np.testing.assert_allclose(ours.sample(TorchNoise(5)), drawn, rtol=1e-5, atol=1e-5)
    assert np.array_equal(ours.mean, theirs.mode().numpy())


def test_an_older_encoder_that_draws_its_sample_itself() -> None:
    sample = np.ones((1, 4, 8, 8), np.float32)
    stream = TorchNoise(5)
    assert np.array_equal(Posterior.of(sample, LatentSpace()).sample(stream), sample)
    assert np.array_equal(stream.normal((1, 4, 8, 8)), TorchNoise(5).normal((1, 4, 8, 8)))


def test_a_folder_without_an_encoder(exported_openvino: Path, tmp_path: Path) -> None:
    """Told before anything is loaded; painting from text still works."""
    folder = shutil.copytree(exported_openvino, tmp_path / "no-encoder")
    shutil.rmtree(folder / "vae_encoder")
    (folder / "pleinair.json").unlink()
    pipe = StableDiffusionPipeline.from_pretrained(folder, profile="exact")
    told: list[Any] = []
    with pytest.raises(BundleError, match="no vae_encoder"):
        pipe("boat", image=painting(), callback_on_stage=lambda *stage: told.append(stage))
    assert told == []
