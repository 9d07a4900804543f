"""The texts that a file holds: a PNG's, those of EXIF and XMP; or a text file's own."""

import contextlib
import io
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from PIL import ExifTags, Image, UnidentifiedImageError

from ..errors import SettingError, shown

MAIN = "parameters"
"""The name of webui's text in a PNG; EXIF's UserComment and text files go by it, too."""
XMP = "XML:com.adobe.xmp"
"""The name of the XML that Adobe's programs, and Draw Things, write; Pillow's for PNG."""
UNICODE = b"UNICODE\0"
"""What stands before a UserComment in UTF-16."""

_OTHER_CODES = (b"ASCII\0\0\0", b"JIS\0\0\0\0\0", b"\0" * 8)
# ComfyUI writes its JSON into two tags of EXIF, each with its name before it.
_NAMED = re.compile(r"(prompt|workflow):\s*(?=[{\[])", re.IGNORECASE)
_TEXT_FILES = (".txt", ".json")
_FORMATS = ("PNG", "JPEG", "WEBP")
_LARGEST_FILE = 200 << 20
LARGEST_TEXT = 1 << 20
UNNAMED = "the picture"
"""What an error calls a picture that is no file here."""
# No picture is painted larger in one go; to unpack one would only exhaust the memory.
LARGEST_SIDE = 4096


def texts_of(source: Path | bytes) -> dict[str, str]:
    """The texts in a file, or in a picture file's bytes, by name. The pixels are not looked at.

    Raises SettingError where it is not there, too large or no picture.
    """
    if isinstance(source, bytes):
        return _picture_texts(io.BytesIO(source), UNNAMED)
    path = source
    try:
        size = path.stat().st_size if path.is_file() else None
    except (OSError, ValueError):  # a name of thousands of letters, or with a NUL in it
        size = None
    if size is None:
        raise SettingError(f"{shown(str(path), 200)}: no such picture file")
    if path.suffix.lower() in _TEXT_FILES:
        return {MAIN: _text_file(path, size)}
    if size > _LARGEST_FILE:
        raise SettingError(f"{path}: too large to read settings from")
    return _picture_texts(path, str(path))


def _picture_texts(file: Path | BinaryIO, where: str) -> dict[str, str]:
    try:
        with _quiet(), Image.open(file, formats=_FORMATS) as image:
            texts = {**_exif_texts(image.getexif()), **_strings(image.info)}
            if image.format == "PNG" and not texts and max(image.size) <= LARGEST_SIDE:
                image.load()  # some programs write their texts after the pixels
                texts.update(_strings(image.info))
    except UnidentifiedImageError as error:
        raise SettingError(f"{where}: cannot be read as a picture: no PNG, JPEG or WebP") from error
    except Exception as error:  # a file made to harm can raise anything in a decoder
        raise SettingError(f"{where}: cannot be read as a picture: {shown(str(error))}") from error
    return texts


def user_comment(comment: bytes) -> str:
    """A UserComment's text: UTF-16 of either byte order where it says so, else UTF-8."""
    encoded = comment.removeprefix(UNICODE)
    if encoded == comment:
        start = 8 if comment.startswith(_OTHER_CODES) else 0
        return comment[start:].decode("utf-8", errors="replace").strip("\0")
    if not encoded.count(0):  # some say so and write UTF-8 all the same
        with contextlib.suppress(UnicodeDecodeError):
            return encoded.decode("utf-8")
    # The right order is that in which more letters are plain ones: names of fields, JSON's marks.
    orders = [encoded.decode(f"utf-16-{order}", errors="replace") for order in ("be", "le")]
    plain = [sum(letter.isascii() and letter != "\0" for letter in text) for text in orders]
    return orders[plain[1] > plain[0]].removeprefix("\ufeff").strip("\0")


def _text_file(path: Path, size: int) -> str:
    if size > LARGEST_TEXT:
        raise SettingError(f"{path}: too large to read settings from")
    try:
        content = path.read_bytes()
        wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
        return content.decode("utf-16" if wide else "utf-8-sig")
    except (OSError, ValueError) as error:
        raise SettingError(f"{path}: cannot be read as text: {shown(str(error))}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Pillow's remarks on damaged EXIF."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _strings(info: Mapping[Any, Any]) -> dict[str, str]:
    texts = {
        name: str(value)
        for name, value in info.items()
        if isinstance(name, str) and isinstance(value, str)
    }
    # Those of JPEG and WebP are bytes.
    for name, ours in (("comment", "comment"), ("xmp", XMP)):
        if isinstance(info.get(name), bytes):
            texts[ours] = info[name].decode("utf-8", errors="replace")
    return texts


def _exif_texts(exif: Image.Exif) -> dict[str, str]:
    texts: dict[str, str] = {}
    tags = ExifTags.Base
    # Fooocus puts the comment among the first tags, where it does not belong.
    comments = (exif.get_ifd(ExifTags.IFD.Exif).get(tags.UserComment), exif.get(tags.UserComment))
    for comment in comments:
        if isinstance(comment, bytes):
            texts.setdefault(MAIN, user_comment(comment))
        elif isinstance(comment, str):
            texts.setdefault(MAIN, comment)
    for tag in (tags.Make, tags.Model, tags.ImageDescription):
        text = exif.get(tag)
        if isinstance(text, str):
            name = _NAMED.match(text)
            texts[name[1].lower() if name else tag.name] = text[name.end() if name else 0 :]
    software = exif.get(tags.Software)
    if isinstance(software, str) and "ImageDescription" in texts:
        texts[software.partition(" ")[0]] = texts["ImageDescription"]
    return texts
