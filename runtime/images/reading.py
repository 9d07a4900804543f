"""Pictures brought in: a file, a PIL picture or an array becomes 8-bit RGB or RGBA, upright."""

import contextlib
import io
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from ..errors import SettingError, shown
from ..options.groups import PictureSource

# Of a file that is opened by others and read to its end; compressed photographs take a tenth.
_MOST_BYTES = 512 << 20
# A small file can unpack to gigabytes; a photograph of this size takes one.
MOST_PIXELS = 80_000_000

# Pictures of dots alone: Pillow also knows formats for which it starts other programs.
_FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000"),
    *("MPO", "PCX", "PNG", "PPM", "TGA", "TIFF", "WEBP"),
)

# Python's list of warning filters is one for all threads.
_filtering = threading.Lock()


def read(source: PictureSource, name: str = "image") -> Image.Image:
    """The picture, mode RGBA where it can be transparent, else RGB.

    source: a path; a file's bytes; a file open for reading in binary, see `held`; a PIL picture of
        any mode; or an array, (height, width) or (height, width, channels) with grey, grey and
        alpha, RGB or RGBA: uint8, uint16, bool, or floats from 0 to 1, which are rounded to 8
        bits. Of an animation the first frame. Never changed.
    name: what an error calls a source that is no path.
    Raises SettingError: no such file, no picture, truncated, or more than MOST_PIXELS.
    """
    source = held(source, name)
    if isinstance(source, np.ndarray):
        return _from_array(source, name)
    if isinstance(source, Image.Image):
        with _readers_errors(name):
            return _eight_bits(_upright(source, name), name)
    if isinstance(source, bytes):
        with _readers_errors(name):
            return _from_file(io.BytesIO(source), name)
    if isinstance(source, str | os.PathLike):
        where = shown(os.fspath(source), 300)
        with _readers_errors(where), Path(source).open("rb") as file:
            return _from_file(file, where)
    kind = type(source).__name__
    raise SettingError(
        f"{name} is of type {kind}; give a path, a file's bytes, a file opened in binary, "
        "a PIL picture or a numpy array"
    )


def held(source: Any, name: str = "image") -> Any:
    """An open file's bytes, so that it can be read twice; any other source as it is.

    It is read from its beginning, or where it cannot be wound back, as a pipe, from where it is.
    Raises SettingError where it cannot be read, holds text, or more than half a gigabyte.
    """
    if isinstance(source, bytearray | memoryview):
        return bytes(source)
    if isinstance(source, Image.Image) or not callable(getattr(source, "read", None)):
        return source
    try:
        if getattr(source, "seekable", lambda: False)():
            source.seek(0)
        data = source.read(_MOST_BYTES + 1)
    except Exception as error:  # somebody's object, which may raise anything
        raise SettingError(f"{name}: the file cannot be read: {error}") from error
    if not isinstance(data, bytes):
        raise SettingError(f"{name} is a file that gives {type(data).__name__}; open it in binary")
    if len(data) > _MOST_BYTES:
        raise SettingError(
            f"{name}: more than {_MOST_BYTES >> 20} MiB; scale the picture down first"
        )
    return data


def _from_file(file: BinaryIO, where: str) -> Image.Image:
    Image.init()  # some readers are not there in every build of Pillow
    formats = [format for format in _FORMATS if format in Image.OPEN]
    with Image.open(file, formats=formats) as image:
        return _eight_bits(_upright(image, where), where)


def over(picture: Image.Image, colour: str) -> Image.Image:
    """RGB: where the picture is transparent, the colour shows through."""
    if picture.mode == "RGB":
        return picture
    ground = Image.new("RGBA", picture.size, colour)
    return Image.alpha_composite(ground, picture).convert("RGB")


@contextlib.contextmanager
def _readers_errors(where: str) -> Iterator[None]:
    """One SettingError for all that can be wrong with a file."""
    try:
        with _filtering, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an error says enough, a picture needs no remark
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except SettingError:
        raise
    except FileNotFoundError:
        raise SettingError(f"{where}: no such picture") from None
    except UnidentifiedImageError:
        raise SettingError(f"{where}: not a picture that can be read; try PNG or JPEG") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(where) from None
    except Exception as error:  # Pillow's readers raise whatever their parsing trips over
        what = getattr(error, "strerror", None) or error or type(error).__name__
        raise SettingError(f"{where}: cannot be read: {what}") from error


def _upright(image: Image.Image, where: str) -> Image.Image:
    """Turned as the camera's EXIF says; the size is checked before anything is unpacked."""
    if image.width * image.height > MOST_PIXELS:
        raise _too_large(where)
    image.load()
    return ImageOps.exif_transpose(image)


def _eight_bits(image: Image.Image, where: str) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits; "I" with 32 is how Pillow opens some of them
        return _from_array(np.asarray(image).clip(0, 65535).astype(np.uint16), where)
    if image.mode == "F":
        return _from_array(np.asarray(image), where)
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None  # None is for inPlace alone
        return converted
    if image.mode == "La":  # premultiplied; Pillow takes it to RGBA by way of LA only
        image = image.convert("LA")
    transparent = {"A", "a"} & set(image.getbands()) or "transparency" in image.info
    return image.convert("RGBA" if transparent else "RGB")


def _from_array(array: NDArray[Any], where: str) -> Image.Image:
    pixels = array[0] if array.ndim == 4 and len(array) == 1 else array
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 2, 3, 4) or not pixels.size:
        raise SettingError(
            f"{where} is an array of shape {array.shape}; "
            "give (height, width) or (height, width, 1 to 4 channels)"
        )
    if pixels.shape[0] * pixels.shape[1] > MOST_PIXELS:
        raise _too_large(where)
    dots = np.ascontiguousarray(_bytes(pixels, where))
    picture = Image.fromarray(dots[..., 0] if dots.shape[2] == 1 else dots)
    return picture.convert("RGBA" if dots.shape[2] in (2, 4) else "RGB")


def _bytes(values: NDArray[Any], where: str) -> NDArray[np.uint8]:
    """0 to 255, from whatever range the number type has."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return np.asarray([0, 255], np.uint8)[values.astype(np.intp)]
    if values.dtype == np.uint16:
        return np.rint(values / 257).astype(np.uint8)
    if not np.issubdtype(values.dtype, np.floating):
        raise SettingError(
            f"{where} is an array of {values.dtype}; give uint8, or floats from 0 to 1"
        )
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # no numbers are neither
        raise SettingError(f"{where} holds floats from {low:g} to {high:g}; give 0 to 1")
    return np.rint(np.asarray(values, np.float64) * 255).astype(np.uint8)


def _too_large(where: str) -> SettingError:
    return SettingError(
        f"{where}: more than {MOST_PIXELS // 1_000_000} million pixels; scale it down first"
    )
