"""The VAE's halves: which graphs are compiled, in which order, and what comes out of tiles."""

from typing import Any

import numpy as np

from fakes import Counting
from pleinair.runtime.model.autoencoder import Coder
from pleinair.runtime.model.tiles import Tiles


class Compiler:
    """Makes graphs whose pixels are the cells of the first three channels, repeated."""

    def __init__(self, factor: int) -> None:
        self.factor = factor
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, shape: tuple[int, ...]) -> Any:
        self.shapes.append(tuple(shape))

        def decode(feeds: Any) -> dict[str, Any]:
            (latents,) = feeds.values()
            assert latents.shape == tuple(shape)
            f = self.factor
            return {"sample": latents[:, :3].repeat(f, axis=2).repeat(f, axis=3)}

        return Counting(decode)


def latents(rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(1, 4, rows, columns)).astype(np.float32)


def test_a_decoder_in_one_piece() -> None:
    compiler, given = Compiler(4), latents(6, 10)
    decoder = Coder.decoder(4, Tiles.covering((6, 10)), compiler)
    decoder.prepare(1, 4)
    assert compiler.shapes == [(1, 4, 6, 10)]
    found = decoder(given)
    assert found.shape == (1, 3, 24, 40)
    decoder(given)
    assert len(compiler.shapes) == 1
    np.testing.assert_array_equal(found[:, :, ::4, ::4], given[:, :3])


def test_an_encoder_is_cut_in_pixels_and_mixed_in_cells() -> None:
    shapes = []

    def compile(shape: tuple[int, ...]) -> Any:
        shapes.append(shape)
        return lambda feeds: {"latent_parameters": feeds["sample"][:, :, ::4, ::4]}

    pixels = np.random.default_rng(0).normal(size=(1, 3, 24, 56)).astype(np.float32)
    encoder = Coder.encoder(4, Tiles.covering((6, 14), 6, 2), compile)
    found = encoder(pixels)
    np.testing.assert_allclose(found, pixels[:, :, ::4, ::4], atol=2e-6)
    assert shapes == [(1, 3, 24, 24)]


def test_tiles_of_a_shape_come_one_after_the_other() -> None:
    """Three shapes of tiles are three compilations, though they lie in turn."""
    compiler, tiles = Compiler(2), Tiles.as_diffusers((10, 10), 8)
    assert [part.shape[2:] for part in tiles.cut(latents(10, 10))] == [
        (8, 8),
        (8, 4),
        (4, 8),
        (4, 4),
    ]
    heard: list[tuple[int, int]] = []
    decoder = Coder.decoder(2, tiles, compiler)
    found = decoder(latents(10, 10), lambda *now: heard.append(now))
    assert compiler.shapes == [(1, 4, 8, 8), (1, 4, 8, 4), (1, 4, 4, 8), (1, 4, 4, 4)]
    assert heard == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    expected = latents(10, 10)[:, :3].repeat(2, axis=2).repeat(2, axis=3)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_many_tiles_need_few_compilations() -> None:
    compiler = Compiler(2)
    decoder = Coder.decoder(2, Tiles.as_diffusers((22, 22), 8), compiler)
    decoder(latents(22, 22))
    assert len(compiler.shapes) == len(set(compiler.shapes)) == 4
