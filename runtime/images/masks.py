"""Masks: which part of a picture is painted anew."""

from dataclasses import dataclass

from PIL import Image, ImageFilter, ImageOps

from ..errors import Message, SettingError
from ..options.groups import PictureSource
from .reading import over, read

# As a mask's source: the picture's own transparency says what is to be painted.
ALPHA = "alpha"

MOST_BLUR = 4096
"""Pixels of a soft edge, as in the widest pictures. Pillow crashes on numbers of ten digits."""


@dataclass(frozen=True)
class Mask:
    """Both of mode L and one size; 255 is painted anew, 0 stays.

    grey: the mask as it came, turned to black and white only when it is laid on the canvas.
    weights: how much of the new picture shows where a picture keeps what is not masked.
    """

    grey: Image.Image
    weights: Image.Image

    @classmethod
    def read(
        cls, source: PictureSource, picture: Image.Image, invert: bool = False, blur: float = 0.0
    ) -> "Mask":
        """A mask by its brightness, transparent parts being black; or ALPHA, the picture's own.

        picture: as `reading.read` gives it; ALPHA marks its transparent parts.
        blur: radius of a soft edge in the mask's own pixels, 0 for a hard one.
        Raises SettingError where the mask cannot be read, or the picture has no alpha.
        """
        if not 0 <= blur <= MOST_BLUR:
            raise SettingError(Message("{mask_blur} is {0:g}; give 0 to {1}", blur, MOST_BLUR))
        grey = _transparent(picture) if _is_alpha(source) else _brightness(source)
        if invert:
            grey = ImageOps.invert(grey)
        if not blur:
            return cls(grey, _black_and_white(grey))
        soft = _black_and_white(grey).filter(ImageFilter.GaussianBlur(blur))
        return cls(soft, soft)


def _is_alpha(source: PictureSource) -> bool:
    return isinstance(source, str) and source == ALPHA


def _brightness(source: PictureSource) -> Image.Image:
    return over(read(source, "mask_image"), "black").convert("L")


def _transparent(picture: Image.Image) -> Image.Image:
    if picture.mode != "RGBA":
        raise SettingError(
            Message("{mask_image} is 'alpha', and the picture has no transparent part")
        )
    return ImageOps.invert(picture.getchannel("A"))


def _black_and_white(grey: Image.Image) -> Image.Image:
    """White from the middle up: a mask saved as JPEG is not quite black where it is black."""
    return grey.point([0] * 128 + [255] * 128)
