"""The latent space of a model: what its VAE makes of pictures, and where denoising takes place."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..images.preview import LatentColours

Array: TypeAlias = NDArray[np.float32]

# Stable Diffusion 1's, where an older folder has no config.json beside its VAE.
_CHANNELS, _LEVELS, _SCALING, _SAMPLE_SIZE = 4, 4, 0.18215, 512


@dataclass(frozen=True)
class LatentSpace:
    """Latents are (encoded - shift) * scale, (1, channels, rows, columns), float32.

    channels: of a cell.
    factor: pixels that a cell spans along one side.
    scale, shift: diffusers' scaling_factor and shift_factor.
    sample_size: the side of the pictures that the VAE was trained on, in pixels.
    colours: what latents look like, where that is known; None has to be fitted.
    """

    channels: int = _CHANNELS
    factor: int = 2 ** (_LEVELS - 1)
    scale: float = _SCALING
    shift: float = 0.0
    sample_size: int = _SAMPLE_SIZE
    colours: LatentColours | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "LatentSpace":
        """From a VAE's config.json."""
        levels = len(config.get("block_out_channels", [0] * _LEVELS))
        return cls(
            channels=config.get("latent_channels", _CHANNELS),
            factor=2 ** (levels - 1),
            scale=config.get("scaling_factor") or _SCALING,
            shift=config.get("shift_factor") or 0.0,
            sample_size=side(config.get("sample_size", _SAMPLE_SIZE)),
        )

    def coloured(self, known: Mapping[float, LatentColours]) -> "LatentSpace":
        """With the colours that are known for VAEs of this scale, in cells of 8 pixels."""
        if (self.channels, self.factor) != (4, 8):
            return self
        return replace(self, colours=known.get(round(self.scale, 5)))

    def shape(self, width: int, height: int) -> tuple[int, int, int, int]:
        """The latents of one picture of that many pixels, (1, channels, rows, columns)."""
        return (1, self.channels, height // self.factor, width // self.factor)

    def from_encoder(self, encoded: Array) -> Array:
        """Latents of a sample of what the encoder says of a picture."""
        latents: Array = (encoded - np.float32(self.shift)) * np.float32(self.scale)
        return latents

    def to_decoder(self, latents: Array) -> Array:
        """What a decoder is given."""
        sample: Array = latents / np.float32(self.scale) + np.float32(self.shift)
        return sample


def side(size: Any) -> int:
    """A config's size: a number, or height and width."""
    return size if isinstance(size, int) else max(size)
