"""How far two pictures are apart."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def psnr(picture: NDArray[Any], original: NDArray[Any]) -> float:
    """Peak signal-to-noise ratio in dB of uint8 pictures; infinite where they are equal."""
    error = np.mean((picture.astype(np.float64) - original.astype(np.float64)) ** 2)
    return 10.0 * math.log10(255.0**2 / error) if error else math.inf
