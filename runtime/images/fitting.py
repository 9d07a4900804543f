"""How a picture of one size comes to lie on a canvas of another, and how it gets back."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..errors import Argument, Message, SettingError, shown
from ..options.groups import RESIZES

Size = tuple[int, int]


@dataclass(frozen=True)
class Fit:
    """A picture scaled to `scaled`, its middle on the middle of the canvas. Sizes are (w, h).

    The same three ways, to the pixel, as the resize modes of diffusers' VaeImageProcessor
    (default, crop, fill), with its filter.
    """

    picture: Size
    canvas: Size
    scaled: Size

    @classmethod
    def of(cls, picture: Size, canvas: Size, way: str) -> "Fit":
        """`stretch` forgets the proportions, `crop` the edges; `pad` repeats the outermost dots.

        Raises SettingError for another way.
        """
        if way not in RESIZES:
            raise SettingError(
                Message("{resize} is {0!r}; choose from: {1}", shown(way), ", ".join(RESIZES))
            )
        if way == "stretch":
            return cls(picture, canvas, canvas)
        (w, h), (width, height) = picture, canvas
        by_width = width, max(1, h * width // w)
        by_height = max(1, w * height // h), height
        wider, narrower = w * height > width * h, w * height < width * h
        return cls(picture, canvas, by_width if (narrower, wider)[way == "pad"] else by_height)

    def lay(
        self, picture: Image.Image, filter: Image.Resampling = Image.Resampling.LANCZOS
    ) -> Image.Image:
        """The canvas with the picture, or another of any size in its place, such as its mask."""
        scaled = picture.resize(self.scaled, filter)
        return window(scaled, self._corner, self.canvas)

    def lift(self, canvas: Image.Image) -> Image.Image:
        """What is on the canvas, as large as the picture and where the picture has it."""
        x, y = self._corner
        scaled = window(canvas, (-x, -y), self.scaled)
        return scaled.resize(self.picture, Image.Resampling.LANCZOS)

    def covered(self) -> Image.Image:
        """Mode L, of the picture's size: 255 where the canvas holds it, 0 where crop cut it off."""
        x, y = self._corner
        scaled = Image.new("L", self.scaled, 0)
        scaled.paste(255, (x, y, x + self.canvas[0], y + self.canvas[1]))
        return scaled.resize(self.picture, Image.Resampling.NEAREST)

    @property
    def _corner(self) -> Size:
        """The canvas's upper left corner, seen from the scaled picture's."""
        (width, height), (w, h) = self.canvas, self.scaled
        return w // 2 - width // 2, h // 2 - height // 2


def paintable(picture: Size, multiple: int, name: str = "image") -> Size:
    """The size to paint at where none is asked for: a picture's own, rounded down.

    Raises SettingError, which calls the picture by its argument's name, where that leaves nothing.
    """
    width, height = (side - side % multiple for side in picture)
    if not (width and height):
        raise SettingError(
            Message(
                "{0} is {1}x{2} pixels, less than {3}x{3}; give {width} and {height}",
                Argument(name),
                *picture,
                multiple,
            )
        )
    return width, height


def window(image: Image.Image, corner: Size, size: Size) -> Image.Image:
    """The part of an image that starts at a corner; beyond its edges they repeat."""
    if corner == (0, 0) and size == image.size:
        return image
    (x, y), (width, height) = corner, size
    dots = np.asarray(image)
    seen = dots[max(y, 0) : y + height, max(x, 0) : x + width]
    above, left = max(-y, 0), max(-x, 0)
    margins = [(above, height - above - seen.shape[0]), (left, width - left - seen.shape[1])]
    margins += [(0, 0)] * (dots.ndim - 2)
    return Image.fromarray(np.pad(seen, margins, mode="edge"))
