"""A VAE's posterior, and noise between two seeds."""

import numpy as np
import pytest

from pleinair.runtime.denoise.noise import TorchNoise
from pleinair.runtime.denoise.posterior import Posterior
from pleinair.runtime.denoise.variation import Variation, slerp
from pleinair.runtime.model.latent_space import LatentSpace

SPACE = LatentSpace(channels=2, scale=0.5, shift=1.0)
SHAPE = (1, 4, 6, 8)


def noise(seed: int) -> np.ndarray:
    return TorchNoise(seed).normal(SHAPE)


def test_mean_and_log_variance_lie_side_by_side() -> None:
    encoded = np.zeros((1, 4, 2, 3), np.float32)
    encoded[:, :2], encoded[:, 2:] = 3, np.log(4)
    found = Posterior.of(encoded, SPACE)
    assert (found.mean == 3).all()
    np.testing.assert_allclose(found.deviation, 2, rtol=1e-6)
    drawn = TorchNoise(1).normal((1, 2, 2, 3))
    np.testing.assert_allclose(found.sample(TorchNoise(1)), 3 + 2 * drawn, rtol=1e-6)
    latents = found.latents(TorchNoise(1))
    np.testing.assert_allclose(latents, (3 + 2 * drawn - 1) * 0.5, rtol=1e-5, atol=1e-6)
    assert latents.dtype == np.float32


def test_log_variance_is_clipped_as_in_diffusers() -> None:
    encoded = np.zeros((1, 4, 1, 2), np.float32)
    encoded[0, 2:, 0] = [[-100, 100], [0, 0]]
    found = Posterior.of(encoded, SPACE).deviation
    np.testing.assert_allclose(found[0, 0, 0], [np.exp(-15), np.exp(10)], rtol=1e-5)


def test_an_older_export_s_graph_draws_itself() -> None:
    encoded = np.full((1, 2, 2, 3), 3, np.float32)
    found, stream = Posterior.of(encoded, SPACE), TorchNoise(1)
    assert found.deviation is None
    np.testing.assert_array_equal(found.latents(stream), np.full((1, 2, 2, 3), 1))
    np.testing.assert_array_equal(stream.normal((16,)), TorchNoise(1).normal((16,)))


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_a_variation_s_ends_are_the_two_noises(strength: float) -> None:
    found = Variation(2, strength).of(noise(1))
    np.testing.assert_allclose(found, noise(1 + int(strength)), atol=1e-5)
    assert found.dtype == np.float32


def test_half_way_is_as_far_from_both() -> None:
    """Spherical, by columns: the middle of a right angle of unit vectors is on the circle."""
    low, high = np.zeros((1, 1, 2, 1), np.float32), np.zeros((1, 1, 2, 1), np.float32)
    low[0, 0, 0], high[0, 0, 1] = 1, 1
    np.testing.assert_allclose(slerp(0.5, low, high)[0, 0, :, 0], [0.5**0.5] * 2, rtol=1e-6)
    third = slerp(1 / 3, low, high)[0, 0, :, 0]
    np.testing.assert_allclose(third, [np.cos(np.pi / 6), np.sin(np.pi / 6)], rtol=1e-6)


def test_what_is_nearly_parallel_is_mixed_straight() -> None:
    low = noise(1)
    high = (low * np.float32(1.01)).astype(np.float32)
    np.testing.assert_allclose(slerp(0.25, low, high), low + 0.25 * (high - low), rtol=1e-6)


def test_in_between_the_noise_is_as_strong() -> None:
    big = (1, 4, 64, 64)
    low = TorchNoise(1).normal(big)
    found = Variation(2, 0.5).of(low)
    assert abs(found.std() - 1) < 0.02
