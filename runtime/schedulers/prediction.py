"""What a model predicts, turned into what a solver needs.

A noisy sample is x = alpha * x_0 + sigma * eps. Models are trained to give the noise (`epsilon`),
the clean sample (`sample`) or the velocity v = alpha * eps - sigma * x_0 (`v_prediction`)
[Salimans & Ho 2022, section 4]. `m` is the model's output; arrays are float32 of one shape.
"""

from __future__ import annotations

from math import sqrt

from .arrays import Array

PREDICTIONS = ("epsilon", "sample", "v_prediction")


def clean(prediction: str, m: Array, x: Array, alpha: float, sigma: float) -> Array:
    """x_0, from a model that was given x itself (variance preserving, alpha^2 + sigma^2 = 1)."""
    if prediction == "epsilon":
        return (x - sigma * m) / alpha
    if prediction == "v_prediction":
        return alpha * x - sigma * m
    return m


def noise(prediction: str, m: Array, x: Array, alpha: float, sigma: float) -> Array:
    """eps, from a model that was given x itself (variance preserving, alpha^2 + sigma^2 = 1)."""
    if prediction == "epsilon":
        return m
    if prediction == "v_prediction":
        return alpha * m + sigma * x
    return (x - alpha * m) / sigma


def denoised(prediction: str, m: Array, x: Array, sigma: float) -> Array:
    """x_0 where x = x_0 + sigma * eps and the model was given x / sqrt(sigma^2 + 1).

    For v this is c_skip * x + c_out * m [Karras et al. 2022, eq. 7].
    """
    if prediction == "epsilon":
        return x - sigma * m
    if prediction == "v_prediction":
        return m * (-sigma / sqrt(sigma**2 + 1)) + x / (sigma**2 + 1)
    return m
