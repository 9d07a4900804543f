"""The picture that a ControlNet follows: as it was brought, or the edges found in it."""

import re
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..options.groups import PictureSource
from .canny import canny
from .fitting import Fit, Size
from .reading import over, read

Array: TypeAlias = NDArray[np.float32]

# OpenCV's thresholds in ControlNet's guides.
_THRESHOLDS = 100.0, 200.0
_NUMBER = r"(\d+(?:\.\d+)?)"
_CANNY = re.compile(rf"canny:(?:{_NUMBER},{_NUMBER}:)?(.+)", re.DOTALL)


@dataclass(frozen=True)
class Condition:
    """A picture, mode RGB, and the thresholds of Canny's edges where those are to be shown."""

    picture: Image.Image
    thresholds: tuple[float, float] | None = None

    @classmethod
    def read(cls, source: PictureSource) -> "Condition":
        """From a path, a PIL picture or an array, see `reading.read`; what is transparent is black.

        "canny:FILE" is the edges of a file's picture, "canny:LOW,HIGH:FILE" with other thresholds
        than 100 and 200. Raises SettingError where the picture cannot be read.
        """
        file, thresholds = split(source)
        condition = cls(over(read(file, "control_image"), "black"), thresholds)
        if thresholds:
            canny(np.zeros((1, 1), np.uint8), *thresholds)  # refuses wrong ones early
        return condition

    def pixels(self, size: Size, resize: str) -> Array:
        """float32 (1, 3, height, width), 0 to 1, at the size painted, one of `fitting.WAYS` there.

        Edges are found after resizing, so that they are one dot wide whatever the picture's size.
        """
        dots = np.asarray(Fit.of(self.picture.size, size, resize).lay(self.picture))
        if self.thresholds:
            dots = np.repeat(canny(dots, *self.thresholds)[..., None], 3, axis=2)
        pixels: Array = dots.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)
        return pixels


def split(source: PictureSource) -> tuple[PictureSource, tuple[float, float] | None]:
    """ "canny:…" taken apart: the file, and the thresholds; other sources have none."""
    found = _CANNY.fullmatch(source) if isinstance(source, str) else None
    if found is None:
        return source, None
    low, high, file = found.groups()
    return file, _THRESHOLDS if low is None else (float(low), float(high))
