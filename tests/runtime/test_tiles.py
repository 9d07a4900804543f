"""Tiles cover everything, weigh one in all, and are diffusers' where they are meant to be."""

from typing import Any

import numpy as np
import pytest

from checkpoints import tiny_vae
from pleinair.runtime.model.tiles import Tiles

SIZES = [(8, 8), (8, 9), (9, 31), (64, 17), (5, 40), (100, 3)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("side", "overlap"), [(8, 0), (8, 2), (8, 4), (9, 3), (1, 0)])
@pytest.mark.parametrize("cell", [1, 4])
def test_every_dot_weighs_one_in_all(
    size: tuple[int, int], side: int, overlap: int, cell: int
) -> None:
    tiles = Tiles.covering(size, side, overlap)
    whole = np.random.default_rng(0).normal(size=(2, 3, size[0] * cell, size[1] * cell))
    parts = tiles.cut(whole.astype(np.float32), cell)
    assert {part.shape[2:] for part in parts} == {tuple(cell * n for n in tiles.tile)}
    assert max(tiles.tile) <= side
    mixed = tiles.mix(parts, cell)
    np.testing.assert_allclose(mixed, whole, atol=2e-6)  # 0 where no tile is, 2 where two add up
    ones = tiles.mix([np.ones_like(part) for part in parts], cell)
    np.testing.assert_allclose(ones, 1, atol=3e-7)


def test_neighbours_overlap_and_none_is_left_out() -> None:
    tiles = Tiles.covering((64, 150), 64, 16)
    starts = [columns.start for _, columns in tiles.windows]
    assert starts == [0, 43, 86]
    assert tiles.windows[-1][1].stop == 150


def test_a_seam_is_a_ramp() -> None:
    tiles = Tiles.covering((4, 28), 16, 4)
    mixed = tiles.mix([np.zeros((1, 1, 4, 16), np.float32), np.ones((1, 1, 4, 16), np.float32)])
    np.testing.assert_allclose(mixed[0, 0, 0, 12:16], [0, 1 / 3, 2 / 3, 1], atol=1e-6)
    assert np.all(mixed[..., :12] == 0)
    assert np.all(mixed[..., 16:] == 1)


def test_one_tile_is_left_as_it_is() -> None:
    part = np.random.default_rng(0).normal(size=(1, 4, 8, 8)).astype(np.float32)
    for tiles in (Tiles.covering((8, 8), None), Tiles.covering((8, 8), 64, 16)):
        assert np.array_equal(tiles.mix(tiles.cut(part)), part)


@pytest.fixture(scope="module")
def vae() -> Any:
    """Tiles of 64 pixels, 8 cells."""
    import torch

    torch.manual_seed(0)
    vae = tiny_vae(sample_size=64).eval()
    vae.enable_tiling()
    return vae


@pytest.mark.parametrize("size", [(12, 8), (9, 13), (6, 21)], ids=str)
def test_the_vae_in_tiles_is_diffusers(vae: Any, size: tuple[int, int]) -> None:
    import torch

    random = torch.Generator().manual_seed(1)
    tiling = Tiles.as_diffusers(size, 8)
    with torch.no_grad():
        latents = torch.randn(1, 4, *size, generator=random)
        pixels = torch.randn(1, 3, 8 * size[0], 8 * size[1], generator=random)
        decoded, encoded = vae.decode(latents).sample, vae.encode(pixels).latent_dist.parameters
        vae.disable_tiling()
        tiles = tiling.cut(latents.numpy())
        ours = [vae.decode(torch.from_numpy(tile.copy())).sample.numpy() for tile in tiles]
        np.testing.assert_allclose(tiling.mix(ours, 8), decoded.numpy(), atol=1e-5)
        tiles = tiling.cut(pixels.numpy(), 8)
        seen = [vae.encode(torch.from_numpy(tile.copy())).latent_dist.parameters for tile in tiles]
        np.testing.assert_allclose(tiling.mix([s.numpy() for s in seen]), encoded, atol=1e-5)
        vae.enable_tiling()
