"""Enlarging with any model: a picture scaled up, for image to image to put the detail in."""

import math
from dataclasses import dataclass
from typing import Any

from PIL import Image

from ..errors import SettingError
from .fitting import Size, window
from .reading import MOST_PIXELS, PictureSource, over, read


def enlarged(size: Size, scale: float) -> Size:
    """Width and height `scale` times as large; raises SettingError for what nobody can paint."""
    if not (isinstance(scale, int | float) and math.isfinite(scale) and scale >= 1):
        raise SettingError(f"{scale} is no scale to enlarge by; give 1 or more")
    width, height = (round(side * scale) for side in size)
    if width * height > MOST_PIXELS:
        most = MOST_PIXELS // 1_000_000
        raise SettingError(
            f"enlarged {scale:g} times it is {width}x{height}, and {most} million pixels are the "
            "most; give a smaller scale"
        )
    return width, height


@dataclass(frozen=True)
class Enlargement:
    """size: the width and height that come out. canvas: the picture scaled up, mode RGB, its right
    and lower edges repeated to sides that can be painted.
    """

    size: Size
    canvas: Image.Image

    @classmethod
    def of(cls, image: PictureSource, scale: float, multiple: int) -> "Enlargement":
        """Scale by Lanczos; raises SettingError for what cannot be read, or would be too large."""
        picture = over(read(image), "white")
        width, height = enlarged(picture.size, scale)
        large = picture.resize((width, height), Image.Resampling.LANCZOS)
        whole = (-width % multiple + width, -height % multiple + height)
        return cls((width, height), window(large, (0, 0), whole))

    def cropped(self, painted: Any) -> Any:
        """A painted canvas, PIL or an array (height, width, 3), without what was repeated."""
        width, height = self.size
        if isinstance(painted, Image.Image):
            return painted.crop((0, 0, width, height))
        return painted[:height, :width]
