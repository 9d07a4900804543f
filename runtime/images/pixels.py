"""Pixels of a decoder as a picture."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array: TypeAlias = NDArray[np.float32]


def as_picture(pixels: Array) -> Image.Image:
    """Mode RGB, of float32 (height, width, 3) from 0 to 1."""
    return Image.fromarray((pixels * 255).round().astype(np.uint8))
