"""The latent space: its numbers from a config, and to and fro."""

import numpy as np
import pytest

from pleinair.runtime.images.preview import signed
from pleinair.runtime.model.latent_space import LatentSpace, side

COLOURS = signed([[1, 0, 0]] * 4, [0, 0, 0])


def test_a_config_s_numbers() -> None:
    config = {
        "block_out_channels": [1, 2, 3],
        "latent_channels": 16,
        "scaling_factor": 0.3611,
        "shift_factor": 0.1159,
        "sample_size": [512, 1024],
    }
    expected = LatentSpace(channels=16, factor=4, scale=0.3611, shift=0.1159, sample_size=1024)
    assert LatentSpace.of(config) == expected


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
