"""Pixels, float32 (height, width, 3) from 0 to 1: out of a decoder, and into a picture."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array: TypeAlias = NDArray[np.float32]


def from_decoder(decoded: Array) -> Array:
    """Pixels of what a decoder gives, (1, 3, height, width) in -1 to 1 and a little beyond."""
    pixels: Array = np.clip(decoded[0].transpose(1, 2, 0) / 2 + 0.5, 0, 1)
    return pixels


def as_picture(pixels: Array) -> Image.Image:
    """In mode RGB."""
    return Image.fromarray((pixels * 255).round().astype(np.uint8))
