"""Variations: the start noise turned from one seed's to another's, as webui turns it."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pictures import painting
from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.denoise.noise import TorchNoise
from pleinair.runtime.denoise.variation import Variation, slerp
from pleinair.runtime.errors import SettingError

pytestmark = pytest.mark.usefixtures("compiled_once")

QUICK: dict[str, Any] = {
    "num_inference_steps": 2,
    "width": 64,
    "height": 64,
    "scheduler": "ddim",
}


@pytest.fixture(scope="module")
def pipe(exported_openvino: Path) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(
        exported_openvino, engine="openvino", profile="exact"
    )


def plain_slerp(share: float, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The textbook's formula on one column of one channel after the other, in float64."""
    mixed = np.empty(low.shape)
    for channel in range(low.shape[1]):
        for column in range(low.shape[3]):
            a = low[0, channel, :, column].astype(np.float64)
            b = high[0, channel, :, column].astype(np.float64)
            angle = math.acos(a @ b / math.sqrt(a @ a) / math.sqrt(b @ b))
            weights = math.sin((1 - share) * angle), math.sin(share * angle)
            mixed[0, channel, :, column] = (weights[0] * a + weights[1] * b) / math.sin(angle)
    return mixed


@pytest.mark.parametrize("strength", [0.1, 0.5, 0.9])
def test_slerp(strength: float) -> None:
    shape = (1, 4, 16, 24)
    low, high = TorchNoise(5).normal(shape), TorchNoise(9).normal(shape)
    found = Variation(9, strength).of(low)
    assert found.dtype == np.float32
    assert np.abs(found - plain_slerp(strength, low, high)).max() < 1e-4
    assert abs(found.std() - 1) < 0.05  # a straight line between them would have 0.7 at 0.5


def test_slerp_s_ends_are_exact() -> None:
    low, high = TorchNoise(5).normal((1, 4, 8, 8)), TorchNoise(9).normal((1, 4, 8, 8))
    assert np.array_equal(slerp(0, low, high), low)
    assert np.array_equal(slerp(1, low, high), high)
    assert np.array_equal(slerp(0.5, low, low), low)


def test_the_pipeline_s_ends_are_the_two_seeds_pictures(pipe: StableDiffusionPipeline) -> None:
    first, second = (pipe("boat", seed=seed, **QUICK).images[0] for seed in (5, 9))
    start = pipe("boat", seed=5, variation_seed=9, variation_strength=0.0, **QUICK)
    end = pipe("boat", seed=5, variation_seed=9, variation_strength=1.0, **QUICK)
    assert np.array_equal(start.images[0], first)
    assert start.variation_seeds == []
    assert np.array_equal(end.images[0], second)


def test_a_variation_is_the_picture_of_the_turned_noise(pipe: StableDiffusionPipeline) -> None:
    turned = plain_slerp(0.3, pipe.start_noise(5, 64, 64), pipe.start_noise(9, 64, 64))
    expected = pipe("boat", seed=5, latents=turned.astype(np.float32), **QUICK).images[0]
    found = pipe("boat", seed=5, variation_seed=9, variation_strength=0.3, **QUICK).images[0]
    assert np.abs(np.asarray(found, int) - np.asarray(expected, int)).max() <= 1


def test_a_batch_varies_one_seed(pipe: StableDiffusionPipeline) -> None:
    arguments = {"variation_strength": 0.4, **QUICK}
    batch = pipe("boat", seed=5, variation_seed=9, num_images_per_prompt=2, **arguments)
    assert batch.seeds == [5, 5]
    assert batch.variation_seeds == [9, 10]
    alone = pipe("boat", seed=5, variation_seed=10, **arguments)
    assert np.array_equal(batch.images[1], alone.images[0])


def test_pictures_vary_too(pipe: StableDiffusionPipeline) -> None:
    arguments = {"image": painting(), "strength": 1.0, "seed": 5, **QUICK}
    plain = pipe("boat", **arguments).images[0]
    varied = pipe("boat", variation_seed=9, variation_strength=0.4, **arguments).images[0]
    assert not np.array_equal(plain, varied)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variation_strength": 1.1}, "variation_strength is 1.1"),
        ({"variation_strength": float("nan")}, "variation_strength is nan"),
        ({"variation_strength": 0.5, "variation_seed": 1.5}, "variation_seed is 1.5"),
    ],
    ids=str,
)
def test_mistakes(pipe: StableDiffusionPipeline, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        pipe("boat", **arguments)
