"""Enlarging with any model: a picture scaled up, for image to image to put the detail in."""

import math
from dataclasses import dataclass

from PIL import Image

from ..errors import Message, SettingError
from .fitting import Size, window
from .reading import MOST_PIXELS


@dataclass(frozen=True)
class Enlargement:
    """How a picture becomes a larger one.

    scale: 1 or more. multiple: the sides of what can be painted are multiples of it, in pixels.
    """

    scale: float
    multiple: int

    def size(self, picture: Size) -> Size:
        """Width and height that come out; SettingError for what nobody can paint."""
        scale = self.scale
        if not (math.isfinite(scale) and scale >= 1):
            raise SettingError(Message("{enlarge} is {0:g}; give 1 or more", scale))
        width, height = (round(side * scale) for side in picture)
        if width * height > MOST_PIXELS:
            most = MOST_PIXELS // 1_000_000
            raise SettingError(
                f"enlarged {scale:g} times it is {width}x{height}, and {most} million pixels are "
                "the most; give a smaller scale"
            )
        return width, height

    def canvas_size(self, picture: Size) -> Size:
        """Width and height that are painted: a little more, where the sides are no multiples."""
        width, height = self.size(picture)
        return -width % self.multiple + width, -height % self.multiple + height

    def canvas(self, picture: Image.Image) -> Image.Image:
        """The picture scaled by Lanczos, its right and lower edges repeated; mode RGB."""
        large = picture.resize(self.size(picture.size), Image.Resampling.LANCZOS)
        return window(large, (0, 0), self.canvas_size(picture.size))
