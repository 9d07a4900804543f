"""PSNR and SSIM, by hand, by their definition, and against scikit-image."""

import math

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from pleinair.bench.similarity import ssim
from pleinair.runtime.images.similarity import psnr


def test_psnr_by_hand() -> None:
    flat = np.full((16, 16, 3), 100, np.uint8)
    assert psnr(flat + np.uint8(10), flat) == pytest.approx(10 * math.log10(255**2 / 100))
    assert psnr(flat, flat) == math.inf


def slow_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """Wang et al. 2004, eq. 13 to 16, window by window."""
    distance = np.arange(-5, 6)
    weights = np.exp(-(distance[:, None] ** 2 + distance[None] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    values = []
    for channel in range(x.shape[2]):
        for top in range(x.shape[0] - 10):
            for left in range(x.shape[1] - 10):
                spot = np.s_[top : top + 11, left : left + 11, channel]
                a, b = x[spot].astype(float), y[spot].astype(float)
                ma, mb = (weights * a).sum(), (weights * b).sum()
                va, vb = (weights * (a - ma) ** 2).sum(), (weights * (b - mb) ** 2).sum()
                cov = (weights * (a - ma) * (b - mb)).sum()
                c1, c2 = 6.5025, 58.5225
                up = (2 * ma * mb + c1) * (2 * cov + c2)
                values.append(up / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    return float(np.mean(values))


def two_pictures() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    first = random.integers(0, 256, (18, 15, 3))
    second = (first + random.integers(-60, 60, first.shape)).clip(0, 255)
    return first.astype(np.uint8), second.astype(np.uint8)


def test_ssim_is_that_of_its_definition() -> None:
    first, second = two_pictures()
    assert ssim(first, second) == pytest.approx(slow_ssim(first, second), abs=1e-10)
    assert ssim(first, first) == pytest.approx(1.0)


def test_ssim_is_that_of_scikit_image() -> None:
    first, second = two_pictures()
    reference = structural_similarity(
        first,
        second,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
    )
    assert ssim(first, second) == pytest.approx(reference, abs=1e-6)
