"""Where an image begins, and what is put back into it: noise, pictures and masks by their sums."""

from typing import Any

import numpy as np
import pytest

from pleinair.runtime.denoise.inpainting import BlendedInpainting, TrainedInpainting
from pleinair.runtime.denoise.noise import TorchNoise
from pleinair.runtime.denoise.posterior import Posterior
from pleinair.runtime.denoise.span import Continued, Span
from pleinair.runtime.denoise.start import Blank, Draws, FromPicture, Kept, begin_at, seen
from pleinair.runtime.denoise.variation import Variation
from pleinair.runtime.model.latent_space import LatentSpace
from pleinair.runtime.schedulers import from_config

SHAPE = (1, 4, 3, 5)
PLAIN = LatentSpace(scale=1.0)


def scheduler(name: str = "DDIMScheduler", steps: int = 10) -> Any:
    made = from_config({"_class_name": name, "beta_schedule": "scaled_linear", "steps_offset": 1})
    made.set_timesteps(steps)
    return made


def posterior(value: float, deviation: float | None = 0.0) -> Posterior:
    mean = np.full(SHAPE, value, np.float32)
    return Posterior(
        mean, None if deviation is None else np.full(SHAPE, deviation, np.float32), PLAIN
    )


def mask() -> np.ndarray:
    made = np.zeros((1, 1, 3, 5), np.float32)
    made[..., 2:] = 1
    return made


def test_blank_is_the_seed_s_noise_as_the_scheduler_has_it() -> None:
    for name in ("DDIMScheduler", "EulerDiscreteScheduler"):
        made = scheduler(name)
        start = Blank(SHAPE).begin(made, Draws(TorchNoise(3)))
        expected = TorchNoise(3).normal(SHAPE) * np.float32(made.init_noise_sigma)
        np.testing.assert_array_equal(start.latents, expected)
        assert (start.first, start.beside, start.kept) == (0, None, None)


def test_noise_that_is_given_is_not_drawn() -> None:
    given = np.full(SHAPE, 2, np.float32)
    stream = TorchNoise(3)
    assert Draws(stream, given).start(SHAPE) is given
    np.testing.assert_array_equal(stream.normal(SHAPE), TorchNoise(3).normal(SHAPE))


def test_a_variation_turns_the_noise_given_or_drawn() -> None:
    variation = Variation(9, 0.3)
    expected = variation.of(TorchNoise(3).normal(SHAPE))
    np.testing.assert_array_equal(Draws(TorchNoise(3), None, variation).start(SHAPE), expected)


def test_from_a_picture_the_last_steps_alone_are_taken() -> None:
    made = scheduler()
    start = FromPicture(posterior(0.5), steps=10, strength=0.4).begin(made, Draws(TorchNoise(3)))
    assert start.first == 6
    stream = TorchNoise(3)
    stream.normal(SHAPE)  # of the posterior, though it has no deviation
    noise = stream.normal(SHAPE)
    expected = made.add_noise(np.full(SHAPE, 0.5, np.float32), noise, made.timesteps[6])
    np.testing.assert_array_equal(start.latents, expected)


def test_begin_at_tells_the_scheduler() -> None:
    made = scheduler("HeunDiscreteScheduler")
    first = begin_at(made, 10, 0.5)
    assert first == made.first_step(10, 0.5) == 10  # two entries a step
    x = np.zeros(SHAPE, np.float32)
    made.step(x, made.timesteps[first], x)  # of two equal timesteps the one that was meant
    assert made.timesteps[first] != made.timesteps[first + 1]


def test_what_is_kept_shows_outside_the_mask() -> None:
    made = scheduler()
    picture, noise = np.full(SHAPE, 2, np.float32), np.full(SHAPE, 1, np.float32)
    kept, latents = Kept(picture, noise, mask()), np.full(SHAPE, 9, np.float32)
    after = kept.around(latents, made, None)
    assert np.unique(after[..., :2]).tolist() == [2]
    assert np.unique(after[..., 2:]).tolist() == [9]
    t = made.timesteps[4]
    between = kept.around(latents, made, t)
    np.testing.assert_array_equal(between[..., :2], made.add_noise(picture, noise, t)[..., :2])
    assert np.unique(between[..., 2:]).tolist() == [9]


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_blended_inpainting(strength: float) -> None:
    made = scheduler("EulerDiscreteScheduler")
    origin = BlendedInpainting(posterior(0.5), mask(), 10, strength)
    stream = TorchNoise(3)
    start = origin.begin(made, Draws(stream))
    again = TorchNoise(3)
    again.normal(SHAPE)
    noise = again.normal(SHAPE)
    again.normal(SHAPE)  # diffusers encodes the masked picture, too
    np.testing.assert_array_equal(stream.normal(SHAPE), again.normal(SHAPE))
    if strength == 1:
        expected = noise * np.float32(made.init_noise_sigma)  # nothing of the picture
    else:
        expected = made.add_noise(np.full(SHAPE, 0.5, np.float32), noise, made.timesteps[5])
    np.testing.assert_array_equal(start.latents, expected)
    assert start.first == (0 if strength == 1 else 5)
    assert start.beside is None
    np.testing.assert_array_equal(start.kept.picture, np.full(SHAPE, 0.5))
    np.testing.assert_array_equal(start.kept.noise, noise)


def test_trained_inpainting_has_mask_and_masked_picture_beside_the_latents() -> None:
    made = scheduler()
    origin = TrainedInpainting(None, posterior(-0.5), mask(), 10, 1.0)
    start = origin.begin(made, Draws(TorchNoise(3)))
    np.testing.assert_array_equal(start.latents, TorchNoise(3).normal(SHAPE))
    assert start.beside.shape == (1, 5, 3, 5)
    np.testing.assert_array_equal(start.beside[:, :1], mask())
    np.testing.assert_array_equal(start.beside[:, 1:], np.full(SHAPE, -0.5))
    assert start.kept is None


def test_trained_inpainting_of_a_strength_begins_in_the_picture() -> None:
    made = scheduler()
    origin = TrainedInpainting(posterior(0.5), posterior(-0.5), mask(), 10, 0.3)
    start = origin.begin(made, Draws(TorchNoise(3)))
    stream = TorchNoise(3)
    stream.normal(SHAPE)
    known, noise = np.full(SHAPE, 0.5, np.float32), stream.normal(SHAPE)
    assert start.first == 7
    np.testing.assert_array_equal(start.latents, made.add_noise(known, noise, made.timesteps[7]))


def test_what_was_begun_goes_on_as_it_is() -> None:
    made, given = scheduler(), np.full(SHAPE, 2, np.float32)
    start = Continued(Span(0.8, 1.0)).begin(made, Draws(TorchNoise(3), given))
    assert start.latents is given
    assert start.first == Span(0.8, 1.0).timesteps(made).start > 0


def test_a_denoiser_sees_a_row_a_branch() -> None:
    latents, beside = np.ones(SHAPE, np.float32), np.full((1, 2, 3, 5), 7, np.float32)
    assert seen(latents, None, ("a", "b"), set()).shape == (2, 4, 3, 5)
    found = seen(latents, beside, ("a", "b", "c"), {"b"})
    assert found.shape == (3, 6, 3, 5)
    assert found[:, 4:].mean(axis=(1, 2, 3)).tolist() == [7, 0, 7]
    assert (found[:, :4] == 1).all()
