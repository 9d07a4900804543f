"""The latent space of a model: what its VAE makes of pictures, and where denoising takes place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from ..errors import BundleError, PleinairError
from ..files import conform
from ..images.preview import LatentColours

Array: TypeAlias = NDArray[np.float32]

# Stable Diffusion 1's, where an older folder has no config.json beside its VAE.
_CHANNELS, _LEVELS, _SCALING, _SAMPLE_SIZE = 4, 4, 0.18215, 512

MEAN_AND_STD: Final = ("latents_mean", "latents_std")
"""What the pipelines of Stable Diffusion XL read of a VAE's config beside its scaling_factor."""
SHIFT: Final = ("shift_factor",)
"""What those of Stable Diffusion 3 read."""

_Positive: TypeAlias = Annotated[float, Meta(ge=1e-4, le=1e4)]
_Number: TypeAlias = Annotated[float, Meta(ge=-1e4, le=1e4)]
_Side: TypeAlias = Annotated[int, Meta(ge=1, le=65_536)]


TINY: Final = "AutoencoderTiny"
"""diffusers' class of a VAE that is a small network, as TAESD; its latents are already scaled."""


class VaeConfig(msgspec.Struct):
    """Of a VAE's config.json, what latents depend on; all names are diffusers'."""

    class_name: str | None = msgspec.field(name="_class_name", default=None)
    num_decoder_blocks: Annotated[list[_Side], Meta(min_length=1, max_length=8)] = msgspec.field(
        default_factory=lambda: [1] * _LEVELS
    )
    upsampling_scaling_factor: Annotated[int, Meta(ge=2, le=4)] = 2
    block_out_channels: Annotated[list[_Side], Meta(min_length=1, max_length=8)] = msgspec.field(
        default_factory=lambda: [1] * _LEVELS
    )
    latent_channels: Annotated[int, Meta(ge=1, le=1024)] = _CHANNELS
    scaling_factor: _Positive | None = None
    shift_factor: _Number | None = None
    latents_mean: list[_Number] | None = None
    latents_std: list[_Positive] | None = None
    sample_size: _Side | Annotated[list[_Side], Meta(min_length=1, max_length=2)] = _SAMPLE_SIZE

    @property
    def factor(self) -> int:
        """Pixels that a cell of the latents spans along one side."""
        if self.class_name == TINY:
            return int(self.upsampling_scaling_factor ** (len(self.num_decoder_blocks) - 1))
        return int(2 ** (len(self.block_out_channels) - 1))

    @property
    def scale(self) -> float:
        """Its scaling_factor, or the one that diffusers assumes."""
        if self.scaling_factor is not None:
            return self.scaling_factor
        return 1.0 if self.class_name == TINY else _SCALING


@dataclass(frozen=True)
class LatentSpace:
    """Latents are (encoded - shift) * scale / std, (1, channels, rows, columns), float32.

    channels: of a cell.
    factor: pixels that a cell spans along one side.
    scale: diffusers' scaling_factor.
    shift: diffusers' shift_factor, or latents_mean, a number for each channel.
    std: diffusers' latents_std, a number for each channel; or 1.
    sample_size: the side of the pictures that the VAE was trained on, in pixels.
    colours: what latents look like, where that is known; None has to be fitted.
    """

    channels: int = _CHANNELS
    factor: int = 2 ** (_LEVELS - 1)
    scale: float = _SCALING
    shift: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0
    sample_size: int = _SAMPLE_SIZE
    colours: LatentColours | None = None

    @classmethod
    def of(
        cls,
        config: Mapping[str, Any],
        fields: Sequence[str] = (),
        where: str | Path = "vae/config.json",
        error: type[PleinairError] = BundleError,
    ) -> "LatentSpace":
        """From a VAE's config.json.

        fields: what is read beside the scaling_factor: `MEAN_AND_STD`, `SHIFT` or none, as the
            pipelines of the family do in diffusers. `ignored` names the rest.
        where: the file, for messages. Raises `error` for a value of another type or out of range.
        """
        vae = conform(config, VaeConfig, where, error=error)
        for name in MEAN_AND_STD:
            if (values := getattr(vae, name)) is not None and len(values) != vae.latent_channels:
                raise error(
                    f"{where}: {name} has {len(values)} numbers, and latents "
                    f"{vae.latent_channels} channels; copy it from the checkpoint"
                )
        space = cls(
            channels=vae.latent_channels,
            factor=vae.factor,
            scale=vae.scale,
            sample_size=side(vae.sample_size),
        )
        if fields == SHIFT and vae.shift_factor is not None:
            return replace(space, shift=vae.shift_factor)
        if fields == MEAN_AND_STD and vae.latents_mean and vae.latents_std:
            return replace(space, shift=tuple(vae.latents_mean), std=tuple(vae.latents_std))
        return space

    def coloured(self, known: Mapping[float, LatentColours]) -> "LatentSpace":
        """With the colours that are known for VAEs of this scale, in cells of 8 pixels."""
        if (self.channels, self.factor) != (4, 8) or (self.shift, self.std) != (0.0, 1.0):
            return self
        return replace(self, colours=known.get(round(self.scale, 5)))

    def shape(self, width: int, height: int) -> tuple[int, int, int, int]:
        """The latents of one picture of that many pixels, (1, channels, rows, columns)."""
        return (1, self.channels, height // self.factor, width // self.factor)

    def from_encoder(self, encoded: Array) -> Array:
        """Latents of a sample of what the encoder says of a picture."""
        latents: Array = (encoded - _column(self.shift)) * np.float32(self.scale)
        return latents / _column(self.std)

    def to_decoder(self, latents: Array) -> Array:
        """What a decoder is given."""
        sample: Array = latents * _column(self.std) / np.float32(self.scale) + _column(self.shift)
        return sample


def ignored(config: Mapping[str, Any], fields: Sequence[str]) -> list[str]:
    """What a VAE's config says of its latents that the family's pipelines in diffusers never read.

    A mean without a deviation, or the reverse, is among it; what would change nothing is not.
    """
    stated = [name for name in (*MEAN_AND_STD, *SHIFT) if config.get(name) is not None]
    read = set(fields) if set(fields) <= set(stated) else set()
    return [
        name
        for name in stated
        if name not in read and np.any(np.asarray(config[name]) != _CHANGING_NOTHING[name])
    ]


_CHANGING_NOTHING = {"latents_mean": 0, "latents_std": 1, "shift_factor": 0}


def side(size: int | Sequence[int]) -> int:
    """A config's size: a number, or height and width."""
    return size if isinstance(size, int) else max(size)


def _column(values: float | tuple[float, ...]) -> Array:
    """A number for each channel, to go with (1, channels, rows, columns)."""
    return np.asarray(values, np.float32).reshape(1, -1, 1, 1)
