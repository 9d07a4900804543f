"""What Stable Diffusion XL's UNet is told of sizes, or of a score [Podell et al. 2023, sec. 2.2].

In training it was told of each picture how large it had been, where it was cut and how large it
then was, so that small and cut pictures could be learnt from without being imitated.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingError
from ..model.bundle import Bundle

Array = NDArray[np.float32]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Sizes:
    """By diffusers' names; sizes are (height, width), positions (top, left), in pixels.

    `checked` takes them as texts too, "768x1024", as they are typed on a command line.

    None is the size painted at, the corner (0, 0), and for a negative one what the other is.
    Scores are the refiner's alone, where they stand in place of target_size.
    """

    original_size: Pair | None = None
    crops_coords_top_left: Pair | None = None
    target_size: Pair | None = None
    negative_original_size: Pair | None = None
    negative_crops_coords_top_left: Pair | None = None
    negative_target_size: Pair | None = None
    aesthetic_score: float = 6.0
    negative_aesthetic_score: float = 2.5

    @classmethod
    def checked(cls, bundle: Bundle, **given: Any) -> "Sizes":
        """Raises SettingError for one that the model has no use for, or that is no size."""
        named = {name: value for name, value in given.items() if value is not None}
        for name, value in named.items():
            about_score = "aesthetic_score" in name
            if bundle.xl is None:
                raise SettingError(f"{name} is for Stable Diffusion XL; {bundle.name} is none")
            if bundle.xl.aesthetic != about_score and ("target" in name or about_score):
                other = "is for XL's refiner" if about_score else "is not what XL's refiner is told"
                raise SettingError(f"{name} {other}; leave it out for {bundle.name}")
            named[name] = _score(name, value) if about_score else _pair(name, value)
        return cls(**named)

    def time_ids(self, width: int, height: int, aesthetic: bool) -> tuple[Array, Array]:
        """For the prompt and for the negative prompt: float32, (1, 6), for the refiner (1, 5)."""
        size, corner = (height, width), (0, 0)
        own: list[tuple[float, ...]] = [
            self.original_size or size,
            self.crops_coords_top_left or corner,
            self.target_size or size,
        ]
        against: list[tuple[float, ...]] = [
            self.negative_original_size or own[0],
            self.negative_crops_coords_top_left or own[1],
            self.negative_target_size or own[2],
        ]
        if aesthetic:
            own[2], against[2] = (self.aesthetic_score,), (self.negative_aesthetic_score,)
        return _row(own), _row(against)


def _row(parts: list[tuple[float, ...]]) -> Array:
    return np.array([[number for part in parts for number in part]], np.float32)


def _pair(name: str, value: Any) -> Pair:
    try:
        first, second = value.lower().split("x") if isinstance(value, str) else value
        return int(first), int(second)
    except (TypeError, ValueError):
        raise SettingError(
            f"{name} is {value!r}; give two whole numbers of pixels, of a size the height first: "
            "(768, 1024), or 768x1024"
        ) from None


def _score(name: str, value: Any) -> float:
    if not math.isfinite(value):
        raise SettingError(f"{name} is {value}; give a number like 6")
    return float(value)
