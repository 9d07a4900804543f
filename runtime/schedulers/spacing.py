"""Timestep spacings: which of the training timesteps a run of n steps visits.

The names are those of table 2 in Lin et al. 2023, "Common diffusion noise schedules and sample
steps are flawed".
"""

from __future__ import annotations

import numpy as np

from .arrays import Array

SPACINGS = ("leading", "linspace", "trailing")


def closed(spacing: str, n: int, train: int, offset: int) -> Array:
    """`n` timesteps of 0 .. `train` - 1, falling; whole numbers but for `linspace`.

    `linspace` visits both ends, `leading` ends at 0 + `offset`, `trailing` begins at `train` - 1.
    """
    if spacing == "linspace":
        return np.linspace(0, train - 1, n)[::-1]
    if spacing == "leading":
        return np.arange(n, dtype=np.float64)[::-1] * (train // n) + offset
    return trailing(train, train / n, n)


def half_open(spacing: str, n: int, train: int, offset: int, last: int) -> Array:
    """`n` whole timesteps below `last`, falling, without the one at 0, which the solver adds.

    This is how the DPM-Solver family counts: n steps lie between n + 1 points. `last` is below
    `train` where the end of a cosine schedule is clipped away.
    """
    if spacing == "linspace":
        return np.round(np.linspace(0, last - 1, n + 1))[::-1][:-1]
    if spacing == "leading":
        return np.arange(n, 0, -1, dtype=np.float64) * (last // (n + 1)) + offset
    return trailing(last, train / n, n)


def trailing(last: int, stride: float, n: int) -> Array:
    steps: Array = np.arange(last, 0, -stride, dtype=np.float64)
    # Cut to n: for some n (61, 103, ...) rounding in arange yields one step more, at t = -1.
    return np.round(steps)[:n] - 1
