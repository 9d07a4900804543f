"""Checks a solver's options before it is made: a mistyped value must not become a wrong picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from numbers import Integral, Real
from typing import Any

import numpy as np

from ..errors import SchedulerError, shown
from .scheduler import Scheduler

# Inclusive. What the betas amount to is checked when they are multiplied.
RANGES: Mapping[str, tuple[float, float]] = {
    "num_train_timesteps": (2, 1_000_000),
    "beta_start": (0, 1),
    "beta_end": (0, 1),
    "steps_offset": (0, 1_000_000),
    "original_inference_steps": (1, 1_000_000),
    "eta": (0, 1),
    "clip_sample_range": (1e-6, 1e6),
    "timestep_scaling": (0, 1e6),
    "sigma_min": (1e-6, 1e6),
    "sigma_max": (1e-6, 1e6),
    "sigma_data": (1e-3, 1e3),
    "rho": (0.1, 100),
    "shift": (1e-3, 1e3),
    "base_shift": (-1e3, 1e3),
    "max_shift": (-1e3, 1e3),
    "base_image_seq_len": (1, 1e9),
    "max_image_seq_len": (1, 1e9),
    "shift_terminal": (0, 0.999),
}


_MOST = 1_000_000
"""Numbers in a list, and the largest of them."""


def options_of(solver: type[Scheduler]) -> dict[str, Any]:
    """The options that a solver has, with their defaults."""
    return {f.name: f.default for f in fields(solver) if f.init and f.name not in solver.lacks}


def checked(solver: type[Scheduler], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `settings` that are options of `solver`, each of a type and value it can use.

    Raises SchedulerError for a value that it cannot, or an option that is on and not supported.
    """
    for option in solver.refuses:
        if settings.get(option):
            raise SchedulerError(f"scheduler option {option} is not supported: switch it off")
    chosen = {}
    for option, default in options_of(solver).items():
        if option in settings:
            value = settings[option]
            if isinstance(value, str):
                value = solver.synonyms.get(option, {}).get(value, value)
            chosen[option] = _checked(option, value, default, solver.choices.get(option))
    return chosen


def _checked(option: str, value: Any, default: Any, choices: tuple[object, ...] | None) -> Any:
    if choices is not None:
        # True == 1, but it is no solver_order.
        if not any(value == choice and type(value) is type(choice) for choice in choices):
            raise _mistaken(option, value, f"one of {', '.join(map(str, choices))}")
        return value
    if isinstance(default, bool):
        if not isinstance(value, bool | None):
            raise _mistaken(option, value, "true or false")
        return bool(value)
    if value is None and default is None:
        return None
    if option == "trained_betas" or default == ():
        return _list(option, value, Real if default is None else Integral)
    kind, word = (Integral, "a whole number") if isinstance(default, int) else (Real, "a number")
    low, high = RANGES.get(option, (-math.inf, math.inf))
    # Compared as it is: a whole number may be too large for a float.
    number: Any = value if isinstance(value, kind) and not isinstance(value, bool) else math.nan
    if not low <= number <= high:
        raise _mistaken(option, value, f"{word} from {low:g} to {high:g}")
    return value


def _list(option: str, value: Any, kind: type) -> list[Any]:
    items = value.tolist() if isinstance(value, np.ndarray) else value
    if (
        not isinstance(items, list | tuple)
        or len(items) > _MOST
        or not all(isinstance(item, kind) and not isinstance(item, bool) for item in items)
        or not all(abs(item) <= _MOST for item in items)
    ):
        raise _mistaken(option, value, "a list of numbers")
    return list(items)


def _mistaken(option: str, value: Any, wanted: str) -> SchedulerError:
    return SchedulerError(f"scheduler option {option} is {shown(value)}: it has to be {wanted}")
