"""Saving pictures: whole or not at all, never over another file, with how they were made."""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import SettingError
from . import metadata

# A large picture's worth of bytes.
_ROOM = 4 << 20

# Told of a file that is whole and about to get its name: that path, and the content's sha256.
Announce = Callable[[Path, str], object]


def save(
    image: Image.Image,
    path: Path,
    settings: Mapping[str, Any] | None = None,
    owner: str = "",
    announce: Announce = lambda path, digest: None,
) -> Path:
    """Write a picture to a path that must not exist yet; PNG, JPEG and WebP carry the settings.

    Written beside the target, synced, then published under its name in one step.
    owner: part of the unfinished file's name, by which `sweep` finds it after a crash.
    Raises SettingError where the file exists, the format is unknown or the disk refuses.
    """
    format = _format(path)
    part = _part(path, owner)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("x+b") as file:
            image.save(file, format=format, **_described(format, settings))
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            digest = hashlib.sha256(file.read()).hexdigest()
        announce(path, digest)
        _publish(part, path)
    except FileExistsError:
        raise SettingError(f"{path}: exists already; choose another name") from None
    except OSError as error:
        raise SettingError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    return path


def check_target(path: Path, owner: str = "") -> None:
    """Raise the SettingError that saving there would end in, before the work for it is done."""
    _format(path)
    if path.exists():
        raise SettingError(f"{path}: exists already; choose another name")
    trial = _part(path, owner)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        trial.write_bytes(b"\0" * _ROOM)  # a full disk says so here
    except OSError as error:
        raise SettingError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
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
    while True:
        path = next_numbered(folder, prefix, digits)
        try:
            return save(image, path, settings, owner, announce)
        except SettingError:
            if not path.exists():  # another process may have taken the number meanwhile
                raise


def next_numbered(folder: Path, prefix: str = "", digits: int = 5) -> Path:
    """The first name after all numbered ones that stand in the folder."""
    return folder / f"{prefix}{_next_number(folder, prefix):0{digits}}.png"


def sweep(folder: Path, owner: str) -> None:
    """Remove what an owner that was killed left unfinished in a folder."""
    for part in folder.glob(f".*.{owner}-*.partial"):
        part.unlink(missing_ok=True)


def _format(path: Path) -> str:
    try:
        return Image.registered_extensions()[path.suffix.lower()]
    except KeyError:
        raise SettingError(
            f"{path}: unknown picture format; end the name in .png, .jpg or .webp"
        ) from None


def _described(format: str, settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """What to save a picture with so that its file says how it was made."""
    if settings and format == "PNG":
        return {"pnginfo": metadata.png_info(settings)}
    if settings and format in ("JPEG", "WEBP"):
        return {"exif": metadata.exif(settings)}
    return {}


def _part(path: Path, owner: str) -> Path:
    """A name beside the target that nobody else has, and that no listing of pictures shows."""
    return path.with_name(f".{path.name}.{owner}-{secrets.token_hex(4)}.partial")


def _next_number(folder: Path, prefix: str) -> int:
    stems = (file.stem for file in folder.glob(f"{prefix}*")) if folder.is_dir() else ()
    numbers = (stem[len(prefix) :] for stem in stems)
    return max((int(number) + 1 for number in numbers if number.isdecimal()), default=0)


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
