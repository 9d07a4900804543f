"""What latents look like without decoding them: their colours, by a linear map.

A latent cell's channels hold little else than the mean colour of the pixels that it stands for,
so three weighted sums of them give a small picture [Turner 2022, Decoding latents to RGB].
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .pixels import as_picture

Array: TypeAlias = NDArray[np.float32]

_FITTED_ON = 4


@dataclass(frozen=True)
class LatentColours:
    """colours = cells @ weights + bias, 0 to 1.

    weights: float32 (channels, 3); bias: float32 (3,).
    """

    weights: Array
    bias: Array

    @classmethod
    def fitted(cls, shape: Sequence[int], decode: Callable[[Array], Array]) -> "LatentColours":
        """Least squares between what a decoder paints of some latents, and those latents.

        decode: latents of `shape`, (1, channels, rows, columns), to pixels 0 to 1, (height,
            width, 3).

        The latents are smooth, as those of pictures are: of white noise a decoder makes grey. On
        pocket's own latents the map is off by 0.07 on average, the best one there is by 0.06.
        """
        random = np.random.default_rng(0)
        cells, colours = [], []
        for _ in range(_FITTED_ON):
            latents = _clouds(random, shape)
            rows, columns = shape[2:]
            pixels = decode(latents)
            blocks = pixels.reshape(rows, len(pixels) // rows, columns, -1, 3).mean(axis=(1, 3))
            cells.append(latents[0].reshape(shape[1], -1).T)
            colours.append(blocks.reshape(-1, 3))
        known = np.concatenate(cells)
        design = np.concatenate([known, np.ones((len(known), 1), np.float32)], axis=1)
        solution = np.linalg.lstsq(design, np.concatenate(colours), rcond=None)[0]
        return cls(solution[:-1].astype(np.float32), solution[-1].astype(np.float32))

    def picture(self, latents: Array, factor: int) -> Image.Image:
        """Mode RGB, a cell of `latents`, (1, channels, rows, columns), `factor` pixels a side."""
        colours = latents[0].transpose(1, 2, 0) @ self.weights + self.bias
        small = as_picture(np.clip(colours, 0, 1))
        return small.resize((small.width * factor, small.height * factor), Image.Resampling.BICUBIC)


def _clouds(random: np.random.Generator, shape: Sequence[int]) -> Array:
    """Latents that change slowly from cell to cell: a colour in each corner."""
    _, channels, rows, columns = shape
    coarse = random.normal(0, 0.7, (channels, 2, 2)).astype(np.float32)
    layers = [
        np.asarray(Image.fromarray(layer).resize((columns, rows), Image.Resampling.BICUBIC))
        for layer in coarse
    ]
    smooth: Array = np.stack(layers)[None]
    return smooth


def signed(weights: Sequence[Sequence[float]], bias: Sequence[float]) -> LatentColours:
    """From a map whose colours are -1 to 1, as the communities around the models publish them."""
    half = np.float32(0.5)
    return LatentColours(
        np.asarray(weights, np.float32) * half, np.asarray(bias, np.float32) * half + half
    )
