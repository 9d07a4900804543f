"""An invisible watermark: the one CompVis's scripts put into every picture.

Their scripts take it from the package invisible-watermark, method "dwtDct", with the bytes
"StableDiffusionV1". The mark lies in the blue-difference channel U of YUV: the low band of a Haar
wavelet transform is cut into 4x4 blocks, and each block says one bit by where its largest
coefficient lies between two multiples of 36. The bits are repeated over the whole picture, and a
reader takes the majority. Despite the method's name there is no cosine transform in it: with one,
the package could not read the mark.

What is embedded here is read by that package, and the other way round. Three things are done
better than there, none of which a reader sees: the detail bands go back where they came from (the
package exchanges two of them), numbers are rounded and not cut, and a coefficient that would no
longer be its block's largest, or a colour that would not fit into 8 bits, is put right.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import SettingError

# The bytes that CompVis's scripts write.
COMPVIS = "StableDiffusionV1"

Array = NDArray[np.float64]
Pixels = NDArray[np.int64]

_TAP = 0.5**0.5
_SCALE = 36.0
_BLOCK = 4
# A marked coefficient stays ahead of its block's others by this much, so that rounding to 8 bits
# does not make another one the largest.
_LEAD = 4.0
# The package reads nothing smaller.
_SMALLEST = 256 * 256
# OpenCV's conversion in whole numbers of 2^-14, which readers use, so that both see the same bits.
_SHIFT = 14
_HALF = 1 << (_SHIFT - 1)


def check(width: int, height: int, content: str | bytes) -> None:
    """Raise SettingError where a picture of that size cannot hold the content."""
    bits = 8 * len(_bytes(content))
    if not bits:
        raise SettingError("the watermark is empty; give a text, or leave the option out")
    if width * height < _SMALLEST:
        raise SettingError(
            f"a picture of {width}x{height} is too small for a watermark: readers want 256x256"
        )
    room = (height // 8) * (width // 8)
    if bits > room:
        raise SettingError(
            f"the watermark has {bits // 8} bytes; a picture of {width}x{height} holds {room // 8}"
        )


def embed(image: Image.Image, content: str | bytes = COMPVIS) -> Image.Image:
    """The picture in RGB with `content` in it; text is written in UTF-8.

    Raises SettingError for a picture too small: see `check`.
    """
    check(image.width, image.height, content)
    bits = np.unpackbits(np.frombuffer(_bytes(content), np.uint8))
    rgb = np.asarray(image.convert("RGB")).astype(np.int64)
    marked = rgb.copy()
    part = _whole_cells(marked)
    luma, blue, red = _yuv(part)
    low, details = _haar(blue.astype(np.float64))
    blocks = _blocks(low)
    _mark(blocks, np.resize(bits, len(blocks)))
    changed = np.rint(_unhaar(_unblocks(blocks, low), details)).astype(np.int64)
    part[...] = np.where((changed != blue)[..., None], _rgb(luma, changed, red), part)
    return Image.fromarray(marked.astype(np.uint8))


def extract(image: Image.Image, length: int = len(COMPVIS)) -> bytes:
    """The `length` bytes that the picture's watermark says; noise where it has none.

    Raises SettingError for a picture too small to hold as many.
    """
    check(image.width, image.height, b"\0" * length)
    rgb = np.asarray(image.convert("RGB")).astype(np.int64)
    low, _ = _haar(_yuv(_whole_cells(rgb))[1].astype(np.float64))
    blocks = _blocks(low)
    largest = np.abs(np.take_along_axis(blocks, _largest(blocks)[:, None], axis=1)[:, 0])
    votes = largest % _SCALE > _SCALE / 2
    position = np.arange(len(votes)) % (8 * length)
    share = np.bincount(position, votes) / np.bincount(position)
    return np.packbits(share * 255 > 127).tobytes()


def _mark(blocks: Array, bits: NDArray[np.uint8]) -> None:
    """Put one bit into each block, in place: its largest coefficient to 1/4 or 3/4 of a step."""
    row, position = np.arange(len(blocks)), _largest(blocks)
    value = blocks[row, position]
    rivals = blocks[:, 1:].copy()
    rivals[row, position - 1] = 0
    # U has no negative values, nor has its low band.
    marked = (value // _SCALE + 0.25 + 0.5 * bits) * _SCALE
    blocks[row, position] = np.where(marked < rivals.max(axis=1) + _LEAD, marked + _SCALE, marked)


def _largest(blocks: Array) -> NDArray[np.int64]:
    """Each block's largest coefficient, its first one, the block's corner, left aside."""
    position: NDArray[np.int64] = np.argmax(np.abs(blocks[:, 1:]), axis=1) + 1
    return position


def _blocks(low: Array) -> Array:
    """A band as its whole 4x4 blocks in reading order, (blocks, 16)."""
    rows, columns = (side // _BLOCK for side in low.shape)
    plane = low[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK)
    blocks: Array = plane.swapaxes(1, 2).reshape(-1, _BLOCK**2)
    return blocks


def _unblocks(blocks: Array, low: Array) -> Array:
    """The band with those blocks in place of its own."""
    rows, columns = (side // _BLOCK for side in low.shape)
    plane = blocks.reshape(rows, columns, _BLOCK, _BLOCK).swapaxes(1, 2)
    band: Array = low.copy()
    band[: rows * _BLOCK, : columns * _BLOCK] = plane.reshape(rows * _BLOCK, columns * _BLOCK)
    return band


def _haar(plane: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    """One level of the two-dimensional Haar transform: the low band, and the three of detail."""
    a, b, c, d = plane[::2, ::2], plane[::2, 1::2], plane[1::2, ::2], plane[1::2, 1::2]
    # Down the columns first, as PyWavelets does it: so ties between coefficients fall the same.
    low = _TAP * (_TAP * a + _TAP * c) + _TAP * (_TAP * b + _TAP * d)
    return low, ((a + b - c - d) / 2, (a - b + c - d) / 2, (a - b - c + d) / 2)


def _unhaar(low: Array, details: tuple[Array, Array, Array]) -> Array:
    rows, columns, diagonal = details
    plane = np.empty((2 * low.shape[0], 2 * low.shape[1]))
    plane[::2, ::2] = (low + rows + columns + diagonal) / 2
    plane[::2, 1::2] = (low + rows - columns - diagonal) / 2
    plane[1::2, ::2] = (low - rows + columns - diagonal) / 2
    plane[1::2, 1::2] = (low - rows - columns + diagonal) / 2
    return plane


def _whole_cells(pixels: Pixels) -> Pixels:
    """The part that the mark may lie in: sides that are multiples of 4."""
    height, width = (side // 4 * 4 for side in pixels.shape[:2])
    return pixels[:height, :width]


def _yuv(rgb: Pixels) -> tuple[Pixels, Pixels, Pixels]:
    red, green, blue = (rgb[..., i] for i in range(3))
    luma = (red * 4899 + green * 9617 + blue * 1868 + _HALF) >> _SHIFT
    middle = (128 << _SHIFT) + _HALF
    u = ((blue - luma) * 8061 + middle) >> _SHIFT
    v = ((red - luma) * 14369 + middle) >> _SHIFT
    return luma, np.clip(u, 0, 255), np.clip(v, 0, 255)


def _rgb(luma: Pixels, u: Pixels, v: Pixels) -> Pixels:
    """Back to RGB; a colour that does not fit is made darker or lighter until it does.

    Clipping it would take the mark away: on white, where blue cannot grow, all of it.
    """
    u, v = u - 128, v - 128
    blue = luma + ((u * 33292 + _HALF) >> _SHIFT)
    green = luma + ((u * -6472 + v * -9519 + _HALF) >> _SHIFT)
    red = luma + ((v * 18678 + _HALF) >> _SHIFT)
    rgb = np.stack([red, green, blue], axis=-1)
    over = np.maximum(rgb.max(axis=-1) - 255, 0)
    under = np.maximum(-rgb.min(axis=-1), 0)
    fitting: Pixels = np.clip(rgb + (under - over)[..., None], 0, 255)
    return fitting


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content
