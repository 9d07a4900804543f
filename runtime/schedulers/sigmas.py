"""Sigmas: noise levels in the units of x = x_0 + sigma * noise, and ways to space them."""

from __future__ import annotations

import math

import numpy as np

from .arrays import Array


def from_alphas(alphas_cumprod: Array) -> Array:
    """sigma_t = sqrt((1 - alpha_bar_t) / alpha_bar_t), rising, float32, same shape.

    A terminal alpha_bar of 0 counts as 2^-24, the smallest half-precision number, as it does in
    diffusers: sigma is then 4096 and not infinite.
    """
    alphas_cumprod = np.where(alphas_cumprod == 0, np.float32(2**-24), alphas_cumprod)
    return np.sqrt((1 - alphas_cumprod) / alphas_cumprod)


def karras(low: float, high: float, n: int, rho: float = 7.0) -> Array:
    """`n` sigmas from `high` down to `low`, even in sigma^(1/rho) [Karras et al. 2022, eq. 5]."""
    ramp = np.linspace(0, 1, n)
    start, stop = high ** (1 / rho), low ** (1 / rho)
    return np.asarray((start + ramp * (stop - start)) ** rho)


def exponential(low: float, high: float, n: int) -> Array:
    """`n` sigmas from `high` down to `low`, even in log sigma."""
    return np.exp(np.linspace(math.log(high), math.log(low), n))


def to_timesteps(sigmas: Array, table: Array) -> Array:
    """Timesteps at which the training `table` of sigmas has these `sigmas`, by their logarithms.

    Fractional; clipped to 0 .. len(table) - 1. Not np.interp: some callers truncate the result,
    so it has to round as diffusers' formula does.
    """
    log_table = np.log(table)
    log_sigmas = np.log(np.maximum(sigmas, 1e-10))
    low = np.searchsorted(log_table, log_sigmas, side="right") - 1
    low = low.clip(0, len(table) - 2)
    below, above = log_table[low], log_table[low + 1]
    w = np.clip((below - log_sigmas) / (below - above), 0, 1)
    return np.asarray((1 - w) * low + w * (low + 1), np.float64)
