"""A picture under a mask, as webui has it: which part is painted, and on what."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from pleinair.runtime.images.fitting import Fit, Size
from pleinair.runtime.images.reading import over

Dots: TypeAlias = NDArray[Any]
Box: TypeAlias = tuple[int, int, int, int]
"""Left, upper, right, lower."""

FILL, ORIGINAL, NOISE, NOTHING = range(4)
"""What the masked part begins as, by webui's numbers for inpainting_fill."""

_GREY = (128, 128, 128)


@dataclass(frozen=True)
class Masked:
    """What is given to the library.

    picture, mask: of one size. corner: where the picture lies in `around`, None where it is all.
    """

    picture: Image.Image
    mask: Image.Image
    corner: Size | None = None
    around: Image.Image | None = None

    def finished(self, painted: Image.Image) -> Image.Image:
        """The painted part in the picture that it is a part of."""
        if self.around is None or self.corner is None:
            return painted
        finished = self.around.copy()
        finished.paste(painted, self.corner)
        return finished


def marked(mask: Image.Image, size: Size, *, invert: bool) -> Image.Image:
    """Mode L, white is painted anew: the opaque parts of a mask, or of an opaque one the white."""
    grey = over(mask, "black").convert("L")
    if mask.mode == "RGBA" and not _is_opaque(alpha := mask.getchannel("A")):
        grey = alpha
    if grey.size != size:
        grey = grey.resize(size, Image.Resampling.LANCZOS)
    return ImageOps.invert(grey) if invert else grey


def fitted(picture: Image.Image, mask: Image.Image, size: Size | None, way: str) -> Masked:
    """All of the picture, brought to a size by one of `fitting.WAYS`; None keeps its own."""
    if size is None or size == picture.size:
        return Masked(picture, mask)
    fit = Fit.of(picture.size, size, way)
    return Masked(fit.lay(picture), fit.lay(mask))


def only_masked(
    picture: Image.Image, mask: Image.Image, size: Size, *, padding: int, blur: float
) -> Masked:
    """The masked part with so many pixels around it, in the shape of the size to paint at."""
    soft = mask.filter(ImageFilter.GaussianBlur(blur)) if blur > 0 else mask
    found = soft.point([0] * 8 + [255] * 248).getbbox()
    if found is None:
        return Masked(picture, mask)  # which the library refuses by name
    box = _shaped(_padded(found, padding, picture.size), picture.size, size)
    return Masked(picture.crop(box), mask.crop(box), box[:2], picture)


def filled(masked: Masked, way: int, seed: int) -> Masked:
    """The masked part as FILL, NOISE or NOTHING have it; ORIGINAL leaves it."""
    grounds: dict[int, Callable[[], Image.Image]] = {
        FILL: lambda: _surroundings(masked.picture, masked.mask),
        NOISE: lambda: _noise(masked.picture.size, seed),
        NOTHING: lambda: Image.new("RGB", masked.picture.size, _GREY),
    }
    if way not in grounds:
        return masked
    picture = Image.composite(grounds[way](), masked.picture, masked.mask)
    return Masked(picture, masked.mask, masked.corner, masked.around)


def _is_opaque(alpha: Image.Image) -> bool:
    return alpha.histogram()[255] == alpha.width * alpha.height


def _padded(box: Box, padding: int, size: Size) -> Box:
    left, upper, right, lower = box
    return (
        max(0, left - padding),
        max(0, upper - padding),
        min(size[0], right + padding),
        min(size[1], lower + padding),
    )


def _shaped(box: Box, picture: Size, shape: Size) -> Box:
    """The box made wider or higher, as far as the picture goes, to the proportions of a shape."""
    left, upper, right, lower = box
    width, height = right - left, lower - upper
    wider = max(width, round(height * shape[0] / shape[1]))
    higher = max(height, round(width * shape[1] / shape[0]))
    left, right = _widened(left, right, wider, picture[0])
    upper, lower = _widened(upper, lower, higher, picture[1])
    return left, upper, right, lower


def _widened(begin: int, end: int, length: int, most: int) -> tuple[int, int]:
    """A stretch grown about its middle to a length, shifted where it would stand out."""
    length = min(length, most)
    begin = min(max(0, begin - (length - (end - begin)) // 2), most - length)
    return begin, begin + length


def _surroundings(picture: Image.Image, mask: Image.Image) -> Image.Image:
    """The colours around the mask spread into it: means over ever larger blocks fill what is left.

    [Gortler et al. 1996, The Lumigraph: pull-push]
    """
    known = (np.asarray(mask) < 128).astype(np.float32)[..., None]
    dots = _spread(np.asarray(picture, np.float32), known)
    return Image.fromarray(np.clip(np.rint(dots), 0, 255).astype(np.uint8))


def _spread(means: Dots, weights: Dots) -> Dots:
    """Colours everywhere, of those that are known and how much, 0 to 1, each of them is."""
    rows, columns = weights.shape[:2]
    if rows == columns == 1 or weights.min() >= 1:
        return means
    summed = _halved(weights)
    coarser = _spread(_halved(means * weights) / np.maximum(summed, 1e-6), np.minimum(1, summed))
    wide = _smooth(coarser.repeat(2, axis=0).repeat(2, axis=1))[:rows, :columns]
    filled: Dots = means * weights + wide * (1 - weights)
    return filled


def _smooth(values: Dots) -> Dots:
    """Without the steps between blocks: each of the dots with a quarter of its neighbours."""
    for axis in (0, 1):
        ends = [(1, 1) if one == axis else (0, 0) for one in range(3)]
        padded = np.pad(values, ends, mode="edge")
        before, after = (np.take(padded, range(i, i + values.shape[axis]), axis) for i in (0, 2))
        values = (before + 2 * values + after) / 4
    return values


def _halved(values: Dots) -> Dots:
    """Sums of blocks of two by two; beyond the edge there is nothing."""
    rows, columns, depth = values.shape
    even = np.pad(values, ((0, rows % 2), (0, columns % 2), (0, 0)))
    blocks = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2, depth)
    summed: Dots = blocks.sum(axis=(1, 3))
    return summed


def _noise(size: Size, seed: int) -> Image.Image:
    width, height = size
    random = np.random.default_rng(abs(seed))
    return Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8))
