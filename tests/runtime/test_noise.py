"""TorchNoise draws torch's numbers, torch at hand to compare."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pleinair.runtime.denoise.noise import TorchNoise
from pleinair.runtime.errors import SettingError


def both(seed: int, shapes: list[tuple[int, ...]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Calls on one generator each, in the same order."""
    generator, ours = torch.Generator("cpu").manual_seed(seed), TorchNoise(seed)
    return [
        (torch.randn(shape, generator=generator).numpy(), ours.normal(shape)) for shape in shapes
    ]


def assert_equal(theirs: np.ndarray, ours: np.ndarray) -> None:
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape
    # Half a unit in the last place of the largest values: the same numbers, rounded elsewhere.
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", range(1, 70))
def test_every_small_size(size: int) -> None:
    for theirs, ours in both(size, [(size,)]):
        assert_equal(theirs, ours)
        if size < 16:  # made one by one in double precision: not even rounding differs
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("shape", [(), (0,), (1, 4, 64, 64), (2, 4, 17, 23), (3, 1, 5), (100_003,)])
def test_shapes(shape: tuple[int, ...]) -> None:
    assert_equal(*both(7, [shape])[0])


def test_calls_continue_the_stream_whatever_their_sizes() -> None:
    """Also the second of a pair that a small call leaves for a later one, across large ones."""
    sizes = np.random.default_rng(0).integers(0, 40, 300).tolist()
    for theirs, ours in both(5, [(size,) for size in [3, 64, 1, 17, 5, 0, 16, 1, *sizes]]):
        assert_equal(theirs, ours)


@pytest.mark.parametrize(
    "seed", [0, 1, 42, 2**31, 2**32 - 1, 2**32, 2**32 + 42, 2**63, 2**64 - 1, -1, -42, -(2**63)]
)
def test_every_seed_that_torch_takes(seed: int) -> None:
    for theirs, ours in both(seed, [(5,), (64,)]):
        assert_equal(theirs, ours)


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1, 1.5, "7", None, True])
def test_no_seed_that_torch_refuses(seed: object) -> None:
    with pytest.raises(SettingError):
        TorchNoise(seed)  # type: ignore[arg-type]


def test_most_numbers_are_equal_to_the_last_bit() -> None:
    theirs, ours = both(3, [(1, 4, 64, 64)])[0]
    assert (theirs == ours).mean() > 0.5


def test_the_global_generator_of_numpy_is_left_alone() -> None:
    np.random.seed(1)
    expected = np.random.RandomState(1).rand()
    TorchNoise(9).normal((64,))
    assert np.random.rand() == expected
