"""Noise schedules: how much noise the model was trained to see at each of its timesteps.

All arithmetic is float32, in the order torch does it, because what follows is unforgiving: near
t = 0 a sigma is the root of 1 - alpha_bar, where one unit in the last place grows a thousandfold.
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from .arrays import Array

SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")


def linspace(start: float, stop: float, n: int) -> Array:
    """`n` float32 numbers from `start` to `stop`, each rounded as torch.linspace rounds it.

    torch counts from both ends towards the middle and fuses multiply and add; float64 holds a
    product of two float32 exactly, so that one cast at the end rounds as the fused operation does.
    """
    if n == 1:
        return np.array([start], np.float32)
    first, last = np.float32(start), np.float32(stop)
    step = np.float64((last - first) / np.float32(n - 1))
    i = np.arange(n)
    points: Array = np.where(i < n // 2, first + step * i, last - step * (n - 1 - i))
    return points.astype(np.float32)


def scheduled(schedule: str, start: float, end: float, n: int) -> Array:
    """The `n` betas of a named schedule.

    `linear` [Ho et al. 2020, DDPM]; `scaled_linear`, linear in the root [Rombach et al. 2022,
    latent diffusion]; `squaredcos_cap_v2`, the cosine schedule, which ignores `start` and `end`
    [Nichol & Dhariwal 2021, eq. 17].
    """
    if schedule == "linear":
        return linspace(start, end, n)
    if schedule == "scaled_linear":
        return np.square(linspace(sqrt(start), sqrt(end), n))
    t = np.arange(n + 1) / n
    alpha_bar = np.square(np.cos((t + 0.008) / 1.008 * np.pi / 2))
    return np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999).astype(np.float32)


def alphas_cumprod(betas: Array, zero_terminal_snr: bool = False) -> Array:
    """alpha_bar_t, the product of 1 - beta up to t; float32, shape (num_train_timesteps,).

    With `zero_terminal_snr` the betas are first rescaled so that the last alpha_bar is 0: pure
    noise [Lin et al. 2023, "Common diffusion noise schedules", algorithm 1].
    """
    if not zero_terminal_snr:
        return _cumprod(1 - betas)
    root = np.sqrt(_cumprod(1 - betas))
    first, last = root[0], root[-1]
    alpha_bar = ((root - last) * (first / (first - last))) ** 2
    # Back to betas and forth again: it rounds once more, and diffusers does it.
    betas = 1 - np.concatenate([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])
    return _cumprod(1 - betas)


def _cumprod(alphas: Array) -> Array:
    """torch.cumprod of float32 on the CPU: accumulated in float64, each value rounded."""
    return np.cumprod(alphas, dtype=np.float64).astype(np.float32)
