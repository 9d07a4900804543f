"""The array type of this room."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
"""Samples, noise and model outputs are float32; short tables of timesteps may be float64."""
