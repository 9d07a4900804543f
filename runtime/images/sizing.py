"""Which size a model paints, seen from the one that it was trained on."""

import math

from .fitting import Size

# A picture of more than so many times the pixels of the model's own size is scaled down to it.
_LARGE = 1.5
# Beyond these shares of those pixels a model paints something else than it was trained to.
_TOO_SMALL, _TOO_LARGE = 1 / 3, 3.0


def is_large(picture: Size, trained: int) -> bool:
    """Whether a picture is so much larger than the model's own size that it is scaled down."""
    return math.prod(picture) > _LARGE * trained**2


def scaled_to(picture: Size, trained: int, multiple: int) -> Size:
    """The picture's shape in about as many pixels as the model was trained on."""
    scale = trained / math.sqrt(math.prod(picture))
    width, height = (_rounded(side * scale, multiple) for side in picture)
    return width, height


def completed(picture: Size, width: int | None, height: int | None, multiple: int) -> Size:
    """Width and height of the picture's shape, of which one is given."""
    across, down = picture
    if width is None:
        assert height is not None
        return _rounded(height * across / down, multiple), height
    return width, _rounded(width * down / across, multiple)


def remark(size: Size, trained: int) -> str:
    """What becomes of pictures of a size so far from the model's own; "" where it is near."""
    share = math.prod(size) / trained**2
    if share > _TOO_LARGE:
        return "larger ones repeat what is in them; paint about that, and {enlarge} it"
    if share < _TOO_SMALL:
        return "smaller ones are garbled; paint about that, and scale it down"
    return ""


def _rounded(side: float, multiple: int) -> int:
    return max(multiple, round(side / multiple) * multiple)
