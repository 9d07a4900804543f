"""The latent space: its numbers from a config, to and fro."""

from typing import Any

import numpy as np
import pytest

from pleinair.runtime.errors import BundleError
from pleinair.runtime.images.preview import signed
from pleinair.runtime.model.latent_space import MEAN_AND_STD, SHIFT, LatentSpace, ignored, side

COLOURS = signed([[1, 0, 0]] * 4, [0, 0, 0])
NORMED = {"latents_mean": [-1.5, 1.9, -1.4, 2.5], "latents_std": [8.5, 5.9, 6.5, 5.2]}


def test_a_config_s_numbers() -> None:
    config = {
        "block_out_channels": [1, 2, 3],
        "latent_channels": 16,
        "scaling_factor": 0.3611,
        "shift_factor": 0.1159,
        "sample_size": [512, 1024],
    }
    expected = LatentSpace(channels=16, factor=4, scale=0.3611, shift=0.1159, sample_size=1024)
    assert LatentSpace.of(config, SHIFT) == expected


def test_without_a_config_it_is_stable_diffusion_1_s() -> None:
    known = LatentSpace(channels=4, factor=8, scale=0.18215, shift=0.0, sample_size=512)
    assert LatentSpace.of({}) == LatentSpace() == known
    assert LatentSpace.of({"scaling_factor": None, "shift_factor": None}) == known


@pytest.mark.parametrize(("scale", "shift"), [(0.18215, 0.0), (0.3611, 0.1159), (1.0, -2.0)])
def test_the_decoder_s_way_is_the_encoder_s_reversed(scale: float, shift: float) -> None:
    space = LatentSpace(scale=scale, shift=shift)
    encoded = np.random.default_rng(0).normal(size=(1, 4, 3, 5)).astype(np.float32)
    latents = space.from_encoder(encoded)
    np.testing.assert_allclose(latents, (encoded - shift) * scale, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(space.to_decoder(latents), encoded, rtol=1e-5, atol=1e-6)
    assert latents.dtype == space.to_decoder(latents).dtype == np.float32


def test_a_mean_and_a_deviation_for_each_channel() -> None:
    """As StableDiffusionXLPipeline decodes and StableDiffusionXLImg2ImgPipeline encodes."""
    space = LatentSpace.of(NORMED | {"scaling_factor": 0.5}, MEAN_AND_STD)
    latents = np.random.default_rng(0).normal(size=(1, 4, 3, 5)).astype(np.float32)
    mean, std = (np.float32(NORMED[name]).reshape(1, 4, 1, 1) for name in MEAN_AND_STD)
    np.testing.assert_allclose(space.to_decoder(latents), latents * std / 0.5 + mean, rtol=1e-6)
    encoded = space.from_encoder(space.to_decoder(latents))
    np.testing.assert_allclose(encoded, latents, rtol=1e-4, atol=1e-6)
    assert space.coloured({0.5: COLOURS}).colours is None  # they are of other latents


@pytest.mark.parametrize(
    ("config", "fields", "unread"),
    [
        (NORMED, MEAN_AND_STD, []),
        (NORMED, (), ["latents_mean", "latents_std"]),
        ({"latents_mean": [1, 2, 3, 4]}, MEAN_AND_STD, ["latents_mean"]),
        ({"latents_mean": [0, 0, 0, 0], "latents_std": [1, 1, 1, 1]}, (), []),
        ({"shift_factor": 0.1}, SHIFT, []),
        ({"shift_factor": 0.1}, MEAN_AND_STD, ["shift_factor"]),
        ({"shift_factor": 0.0, "scaling_factor": 0.5}, (), []),
    ],
)
def test_what_diffusers_pipelines_leave_unread_is_named(
    config: dict[str, Any], fields: tuple[str, ...], unread: list[str]
) -> None:
    assert ignored(config, fields) == unread
    if unread:
        plain = LatentSpace.of({})
        assert LatentSpace.of(config, fields) == plain


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"scaling_factor": 1e30}, "scaling_factor"),
        ({"scaling_factor": -0.18215}, "scaling_factor"),
        ({"scaling_factor": 0}, "scaling_factor"),
        ({"scaling_factor": "0.18"}, "scaling_factor"),
        ({"scaling_factor": True}, "scaling_factor"),
        ({"shift_factor": [0.1]}, "shift_factor"),
        ({"latent_channels": 0}, "latent_channels"),
        ({"latent_channels": 10**400}, "latent_channels"),
        ({"block_out_channels": []}, "block_out_channels"),
        ({"block_out_channels": 128}, "block_out_channels"),
        ({"block_out_channels": [128] * 99}, "block_out_channels"),
        ({"sample_size": []}, "sample_size"),
        ({"sample_size": -1}, "sample_size"),
        ({"sample_size": {"a": 1}}, "sample_size"),
        ({"latents_mean": [1.0, 2.0]}, "latents_mean has 2 numbers, and latents 4 channels"),
        ({"latents_std": [1.0, 0.0, 1.0, 1.0]}, "latents_std"),
    ],
)
def test_numbers_that_make_no_latents_are_refused_by_name(
    config: dict[str, Any], says: str
) -> None:
    with pytest.raises(BundleError, match=says) as refused:
        LatentSpace.of(config, where="model/vae_decoder/config.json")
    assert "model/vae_decoder/config.json" in str(refused.value)


def test_a_shape_is_rows_before_columns() -> None:
    assert LatentSpace(channels=16).shape(width=512, height=256) == (1, 16, 32, 64)


def test_colours_are_known_by_the_scale() -> None:
    known = {0.18215: COLOURS}
    assert LatentSpace(scale=0.18215 + 1e-9).coloured(known).colours is COLOURS
    assert LatentSpace(scale=0.5).coloured(known).colours is None
    assert LatentSpace(channels=16).coloured(known).colours is None
    assert LatentSpace(factor=4).coloured(known).colours is None


def test_a_size_is_a_number_or_two() -> None:
    assert side(64) == side([32, 64]) == side((64, 48)) == 64
