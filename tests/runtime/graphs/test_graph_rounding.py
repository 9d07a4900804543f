"""Weights in 8 bits: as quantizers round them, and as many steps as there were before."""

import numpy as np
import pytest

from pleinair.runtime.graphs.rounding import rounded

WEIGHT = np.random.default_rng(0).normal(size=(5, 300, 3, 3)).astype(np.float32)
FULL, HALF = np.array([-127, 127], np.int8), np.array([-63, 0, 63], np.int8)


@pytest.mark.parametrize(("before", "span"), [(FULL, 127.0), (HALF, 63.5)])
def test_symmetric_numbers_reach_from_the_largest_value_of_a_channel(
    before: np.ndarray, span: float
) -> None:
    """NNCF's FakeQuantize of weights: of 255 levels, or of 127 where it fears for overflow."""
    made = rounded(WEIGHT, before)
    largest = np.abs(WEIGHT).max((1, 2, 3))
    assert made.numbers.dtype == np.int8
    assert made.numbers.shape == WEIGHT.shape
    assert made.zeros is None
    np.testing.assert_allclose(made.steps, largest / span, rtol=1e-6)
    steps = made.steps[:, None, None, None]
    assert (np.abs(made.numbers * steps - WEIGHT) <= 0.5001 * steps).all()
    assert np.abs(made.numbers).max() == before.max()


def test_asymmetric_numbers_reach_from_the_least_to_the_largest() -> None:
    """NNCF's compress_weights, INT8_ASYM."""
    shifted = WEIGHT + 2 * np.arange(5, dtype=np.float32)[:, None, None, None]
    made = rounded(shifted, np.array([0, 255], np.uint8))
    assert made.zeros is not None
    assert made.numbers.dtype == made.zeros.dtype == np.uint8
    low, high = np.minimum(shifted.min((1, 2, 3)), 0), shifted.max((1, 2, 3))
    np.testing.assert_allclose(made.steps, (high - low) / 255, rtol=1e-6)
    steps, zeros = (one[:, None, None, None] for one in (made.steps, made.zeros.astype(int)))
    error = np.abs((made.numbers - zeros) * steps - shifted)
    assert (error <= 1.01 * steps).all()  # half a step, and half of one that the zero is off
    assert error.mean() < 0.5 * steps.mean()


def test_a_channel_without_weights_stays_so() -> None:
    for before in (FULL, np.array([0, 255], np.uint8)):
        made = rounded(np.zeros((2, 3), np.float32), before)
        zeros = 0 if made.zeros is None else made.zeros[:, None].astype(int)
        assert not ((made.numbers - zeros) * made.steps[:, None]).any()
        assert np.isfinite(made.steps).all()


def test_numbers_of_nothing_are_no_half_range() -> None:
    made = rounded(WEIGHT, np.zeros(4, np.int8))
    assert np.abs(made.numbers).max() == 127


def test_steps_are_no_smaller_than_asked_for() -> None:
    least = np.array([0, 1, 0, 0, 0.5], np.float32)
    made = rounded(WEIGHT, FULL, least)
    np.testing.assert_allclose(made.steps[[1, 4]], least[[1, 4]])
    np.testing.assert_allclose(made.numbers[1], np.rint(WEIGHT[1]))


def test_large_layers_are_rounded_in_blocks_alike() -> None:
    wide = np.random.default_rng(1).normal(size=(7, 100_000)).astype(np.float32)
    made = rounded(wide, FULL)
    for row, one in enumerate(wide):
        np.testing.assert_array_equal(made.numbers[row], rounded(one[None], FULL).numbers[0])
