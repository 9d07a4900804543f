"""The latents that a call is given, or that one seed gives all of its images."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..denoise.noise import TorchNoise
from ..errors import SettingError
from ..families.settings import Settings
from ..request import consecutive
from .draft import Draft

Array: TypeAlias = NDArray[np.float32]


def start_noise(draft: Draft, settings: Settings) -> Array | None:
    """The start noise of every image, where it is not drawn from its own seed."""
    latents, seed = draft.request.noise.latents, draft.request.noise.noise_seed
    shape = draft.family.space.shape(settings.width, settings.height)
    if latents is not None:
        if latents.shape != shape:
            raise SettingError(f"latents are of shape {latents.shape}; this size needs {shape}")
        if not np.isfinite(latents).all():
            raise SettingError("latents hold values that are no numbers; give finite ones")
    if seed is None:
        return latents
    if latents is not None:
        raise SettingError("latents are the start noise, and noise_seed is too; give one")
    return TorchNoise(consecutive(seed, 1, "noise_seed")[0]).normal(shape)
