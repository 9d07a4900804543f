"""Saving pictures: whole or not at all, never over another file, with how they were made."""

import contextlib
import errno
import hashlib
import io
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import PleinairError, SettingError, shown
from . import metadata

# A large picture's worth of bytes.
_ROOM = 4 << 20
# What can say how a picture was made; the endings of such files are Pillow's.
_FORMATS = ("PNG", "JPEG", "WEBP")
# A number has no more digits; longer ones are names that happen to be digits.
_MOST_DIGITS = 15
# Of a file's name as it is part of another's: names have room for 255 bytes.
_NAME_ROOM = 40

# Told of a file that is whole and about to get its name: that path, and the content's sha256.
Announce = Callable[[Path, str], object]


def save(
    image: Image.Image,
    path: str | Path,
    settings: Mapping[str, Any] | None = None,
    owner: str = "",
    announce: Announce = lambda path, digest: None,
) -> Path:
    """Write a picture to a path that must not exist yet, with how it was made.

    path: ends in .png, .jpg or .webp.
    settings: by the names of a call's arguments; None is what the picture itself says, in `info`,
        as the pipeline's do.
    owner, announce: see `write`.
    Raises SettingError where the file exists, the format is another or the disk refuses.
    """
    path = Path(path)
    if not isinstance(image, Image.Image):
        kind = "no picture" if image is None else f"of type {type(image).__name__}"
        raise SettingError(f"{path}: what is to be saved is {kind}; give a PIL picture")
    format = _format(path)
    with _one_error(path):
        data = encoded(image, format, settings)
    return write(data, path, owner, announce)


def encoded(
    image: Image.Image, format: str = "PNG", settings: Mapping[str, Any] | None = None
) -> bytes:
    """The bytes of a picture's file, with how it was made.

    settings: as of `save`. Raises what Pillow does.
    """
    said = metadata.of_picture(image) if settings is None else settings
    buffer = io.BytesIO()
    image.save(buffer, format=format, **_described(format, said))
    return buffer.getvalue()


def write(
    data: bytes,
    path: Path,
    owner: str = "",
    announce: Announce = lambda path, digest: None,
) -> Path:
    """Write a file's bytes to a path that must not exist yet.

    Written beside the target, synced, then published under its name in one step.
    owner: part of the unfinished file's name, by which `sweep` finds it after a crash.
    Raises SettingError where the file exists or the disk refuses.
    """
    part = _part(path, owner)
    try:
        with _one_error(path):
            _make_folder(path)
            with part.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            announce(path, hashlib.sha256(data).hexdigest())
            _publish(part, path)
    finally:
        with contextlib.suppress(OSError, ValueError):
            part.unlink()
    return path


def check_target(path: Path, owner: str = "") -> None:
    """Raise the SettingError that saving there would end in, before the work for it is done."""
    _format(path)
    trial = _part(path, owner)
    try:
        with _one_error(path):
            with contextlib.suppress(FileNotFoundError):
                path.lstat()  # says so, too, where no file can have that name
                raise FileExistsError(path)
            _make_folder(path)
            trial.write_bytes(b"\0" * _ROOM)  # a full disk says so here
    finally:
        with contextlib.suppress(OSError, ValueError):
            trial.unlink()


def save_numbered(
    image: Image.Image,
    folder: Path,
    settings: Mapping[str, Any] | None = None,
    prefix: str = "",
    digits: int = 5,
    owner: str = "",
    announce: Announce = lambda path, digest: None,
) -> Path:
    """Save as the next free `<prefix>00000.png` of a folder, and return that path."""
    number = _next_number(folder, prefix)
    while True:
        path = folder / f"{prefix}{number:0{digits}}.png"
        try:
            return save(image, path, settings, owner, announce)
        except SettingError:
            if not os.path.lexists(path):
                raise
        # Another process has taken the number meanwhile, or nobody may list the folder.
        number = max(number + 1, _next_number(folder, prefix))


def next_numbered(folder: Path, prefix: str = "", digits: int = 5) -> Path:
    """The first name after all numbered ones that stand in the folder."""
    return folder / f"{prefix}{_next_number(folder, prefix):0{digits}}.png"


def sweep(folder: Path, owner: str) -> None:
    """Remove what an owner that was killed left unfinished in a folder."""
    for part in folder.glob(f".*.{owner}-*.partial"):
        part.unlink(missing_ok=True)


def _format(path: Path) -> str:
    format = Image.registered_extensions().get(path.suffix.lower(), "")
    if format in _FORMATS:
        return format
    kind = f"{format} files cannot say how a picture was made" if format else "no picture format"
    raise SettingError(f"{shown(str(path), 200)}: {kind}; end the name in .png, .jpg or .webp")


@contextlib.contextmanager
def _one_error(path: Path) -> Iterator[None]:
    """One SettingError for all that can go wrong with a file."""
    try:
        yield
    except PleinairError:
        raise
    except FileExistsError:
        raise SettingError(f"{path}: exists already; choose another name") from None
    except (OSError, ValueError, SystemError) as error:  # Pillow's too: too large for the format
        why = getattr(error, "strerror", None) or error
        raise SettingError(f"{shown(str(path), 200)}: cannot be written: {why}") from error


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, f"{path.parent.name} is no folder") from None


def _described(format: str, settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """What to save a picture with so that its file says how it was made."""
    if settings and format == "PNG":
        return {"pnginfo": metadata.png_info(settings)}
    if settings and format in ("JPEG", "WEBP"):
        return {"exif": metadata.exif(settings)}
    return {}


def _part(path: Path, owner: str) -> Path:
    """A name beside the target that nobody else has, and that no listing of pictures shows."""
    name = path.name[:_NAME_ROOM]
    return path.with_name(f".{name}.{owner}-{secrets.token_hex(4)}.partial")


def _next_number(folder: Path, prefix: str) -> int:
    stems = (file.stem for file in folder.glob(f"{prefix}*")) if folder.is_dir() else ()
    numbers = (stem[len(prefix) :] for stem in stems)
    return max((int(text) + 1 for text in numbers if _is_number(text)), default=0)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS


def _publish(part: Path, path: Path) -> None:
    """Give a finished file its name; FileExistsError where the name is taken."""
    try:
        os.link(part, path)  # atomic, and refuses to replace
    except FileExistsError:
        raise
    except OSError:
        # No hard links on this file system: the narrowest window that is left.
        if path.exists():
            raise FileExistsError(path) from None
        os.replace(part, path)
