"""How alike two pictures look, in numpy."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def ssim(picture: np.ndarray, original: np.ndarray) -> float:
    """Structural similarity of uint8 (h, w, c) pictures (Wang et al. 2004, eq. 13).

    Mean over channels and over the places where the 11x11 Gaussian window (sigma 1.5) fits.
    """
    x, y = picture.astype(np.float64), original.astype(np.float64)
    mean_x, mean_y = _windowed(x), _windowed(y)
    var_x, var_y = _windowed(x * x) - mean_x**2, _windowed(y * y) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255.0) ** 2, (0.03 * 255.0) ** 2
    luminance = (2.0 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2.0 * covariance + c2) / (var_x + var_y + c2)
    return float(np.mean(luminance * structure))


def _windowed(values: np.ndarray) -> np.ndarray:
    """(h, w, c) averaged in a Gaussian window, where it fits: (h - 10, w - 10, c)."""
    weights = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        values = sliding_window_view(values, len(weights), axis) @ weights
    return values
