"""One run of the denoising loop, by diffusers and by Pleinair, on the same noise."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import diffusers
import numpy as np
import torch

from pleinair.runtime.schedulers import Scheduler, from_config

SHAPE = (1, 4, 8, 8)
LADDERS = {"plain": {}, "karras": {"use_karras_sigmas": True}}
LADDERS["exponential"] = {"use_exponential_sigmas": True}


def model(x: np.ndarray, t: float) -> np.ndarray:
    """Stands in for a UNet: smooth, bounded, dependent on both arguments."""
    return np.tanh(np.float32(0.3) * x + np.float32(1e-3 * float(t) - 0.3))


def pair(class_name: str, config: dict[str, Any], eta: float = 0.0) -> tuple[Any, Scheduler]:
    """The same scheduler twice; raises what diffusers raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = getattr(diffusers, class_name)(**config)
    return theirs, from_config({**config, "_class_name": class_name, "eta": eta})


def noise(generator: torch.Generator) -> torch.Tensor:
    return torch.randn(SHAPE, generator=generator)


def run_theirs(scheduler: Any, n: int, eta: float = 0.0, start: int | None = None) -> list[Any]:
    """Timesteps and the samples after each, the start first."""
    scheduler.set_timesteps(n)
    generator = torch.Generator("cpu").manual_seed(n)
    timesteps, x = scheduler.timesteps, noise(generator)
    if start is None:
        x = x * scheduler.init_noise_sigma
    else:
        timesteps = timesteps[start:]
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(start)
        x = scheduler.add_noise(torch.full(SHAPE, 0.25), x, timesteps[:1])
    accepted = inspect.signature(scheduler.step).parameters
    extra: dict[str, Any] = {"generator": generator} if "generator" in accepted else {}
    if "eta" in accepted:
        extra["eta"] = eta
    samples = [x.numpy()]
    for t in timesteps:
        m = model(scheduler.scale_model_input(x, t).numpy(), float(t))
        x = scheduler.step(torch.from_numpy(m), t, x, **extra).prev_sample
        samples.append(x.numpy())
    return samples


def run_ours(scheduler: Scheduler, n: int, start: int | None = None) -> list[np.ndarray]:
    """As `run_theirs`. The noise is from a second generator of the same seed: one draw more or
    less, or in another order, and everything after it differs."""
    scheduler.set_timesteps(n)
    return walk_ours(scheduler, n, start)


def walk_ours(scheduler: Scheduler, seed: int, start: int | None = None) -> list[np.ndarray]:
    """The samples of a scheduler whose timesteps are set, the start first."""
    generator = torch.Generator("cpu").manual_seed(seed)
    timesteps, x = scheduler.timesteps, noise(generator).numpy()
    if start is None:
        x = x * np.float32(scheduler.init_noise_sigma)
    else:
        timesteps = timesteps[start:]
        scheduler.set_begin_index(start)
        x = scheduler.add_noise(np.full(SHAPE, 0.25, np.float32), x, timesteps[0])
    samples = [x]
    for t in timesteps:
        m = model(scheduler.scale_model_input(x, t), float(t))
        drawn = noise(generator).numpy() if scheduler.needs_noise(t) else None
        x = scheduler.step(m, t, x, drawn)
        samples.append(x)
    return samples


def error(theirs: list[np.ndarray], ours: list[np.ndarray]) -> float:
    """The worst difference of any step's samples, relative to that step's largest value."""
    assert len(theirs) == len(ours)
    assert all(x.dtype == np.float32 and x.shape == SHAPE for x in ours)
    return max(
        float(np.abs(a - b).max() / np.abs(a).max()) for a, b in zip(theirs, ours, strict=True)
    )
