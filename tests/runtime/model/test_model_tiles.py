"""Tiles: where they lie, and that what is cut and not changed comes back."""

import numpy as np
import pytest

from pleinair.runtime.model.tiles import Tiles


@pytest.mark.parametrize("size", [(8, 8), (9, 31), (64, 17), (100, 3)], ids=str)
@pytest.mark.parametrize("cell", [1, 3])
@pytest.mark.parametrize("made", ["covering", "as_diffusers"])
def test_what_is_cut_and_mixed_is_the_same(made: str, size: tuple[int, int], cell: int) -> None:
    tiles = Tiles.covering(size, 8, 2) if made == "covering" else Tiles.as_diffusers(size, 8)
    array = np.random.default_rng(0).normal(size=(2, 3, size[0] * cell, size[1] * cell))
    array = array.astype(np.float32)
    mixed = tiles.mix(tiles.cut(array, cell), cell)
    assert mixed.dtype == np.float32
    np.testing.assert_allclose(mixed, array, atol=2e-6)


def test_tiles_in_are_mixed_as_larger_tiles_out() -> None:
    """A decoder's tiles are cut in latents and mixed in pixels."""
    tiles = Tiles.covering((6, 14), 6, 2)
    array = np.random.default_rng(0).normal(size=(1, 4, 6, 14)).astype(np.float32)
    larger = [part.repeat(4, axis=2).repeat(4, axis=3) for part in tiles.cut(array)]
    expected = array.repeat(4, axis=2).repeat(4, axis=3)
    np.testing.assert_allclose(tiles.mix(larger, 4), expected, atol=2e-6)


def test_tiles_lie_evenly_and_overlap_enough() -> None:
    tiles = Tiles.covering((64, 150), 64, 16)
    assert [columns.start for _, columns in tiles.windows] == [0, 43, 86]
    assert tiles.windows[-1][1].stop == 150
    assert tiles.tile == (64, 64)
    assert tiles.size == (64, 150)


def test_a_seam_is_a_ramp() -> None:
    tiles = Tiles.covering((4, 28), 16, 4)
    mixed = tiles.mix([np.zeros((1, 1, 4, 16), np.float32), np.ones((1, 1, 4, 16), np.float32)])
    np.testing.assert_allclose(mixed[0, 0, 0, 12:16], [0, 1 / 3, 2 / 3, 1], atol=1e-6)
    assert not mixed[..., :12].any()
    assert (mixed[..., 16:] == 1).all()


def test_diffusers_tiles_begin_every_three_quarters() -> None:
    tiles = Tiles.as_diffusers((8, 20), 8)
    spans = [(columns.start, columns.stop) for _, columns in tiles.windows[:4]]
    assert spans == [(0, 8), (6, 14), (12, 20), (18, 20)]
    assert [rows.start for rows, _ in tiles.windows[::4]] == [0, 6]


def test_diffusers_seam_is_its_blend() -> None:
    """`blend_h`: of an overlap of n dots the x-th is x / n of the tile that follows."""
    tiles = Tiles.as_diffusers((6, 12), 8)
    values = [
        np.full((1, 1, 6, columns.stop - columns.start), i)
        for i, (_, columns) in enumerate(tiles.windows)
    ]
    mixed = tiles.mix([value.astype(np.float32) for value in values])
    np.testing.assert_allclose(mixed[0, 0, 0], [0] * 6 + [0, 0.5] + [1] * 4)


def test_one_tile_is_handed_through() -> None:
    part = np.zeros((1, 4, 8, 8), np.float32)
    for tiles in (Tiles.covering((8, 8)), Tiles.covering((8, 8), 64, 16)):
        assert len(tiles.windows) == 1
        assert tiles.mix([part]) is part
