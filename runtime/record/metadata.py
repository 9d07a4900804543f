"""How a picture was made, kept inside its file: written for three readers, read back from many.

A PNG carries webui's text under `parameters` and our JSON under `pleinair`. JPEG and WebP carry the
same in EXIF: the text as UserComment, as webui writes it, the JSON as ImageDescription. What comes
back out of a file may be anybody's: `programs/` reads its texts, limited in size, as text and JSON
and nothing else, and only values of the right type are kept.
"""

import json
import math
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from ..errors import SettingError
from ..families import GROUPS
from ..options.groups import PROFILES, Opening
from ..options.option import Option, declared
from . import infotext, texts
from .programs import READERS
from .programs.pleinair import KEY, SOFTWARE
from .texts import MAIN, UNNAMED, texts_of

# What a picture's file may say, and of which type it is: the options that are recorded, by the
# names of a call's arguments, then what stands around the call.
_OPTIONS: Mapping[str, Option] = {
    name: one
    for group in (*GROUPS, Opening)
    for name, one in declared(group).items()
    if one.recorded
}
TYPES: Mapping[str, type] = {
    **{name: one.type for name, one in _OPTIONS.items()},
    "loras": list,
    "embeddings": list,
    "watermark": str,
    "model": str,
    "model_digest": str,
    "engine": str,
    "device": str,
    "solver": str,
    "version": str,
    # The text encoder's layer that is read, counted from the last, which is 1, as webui does.
    "clip_layer": int,
}
_CHOICES: Mapping[str, Callable[[], Sequence[str]]] = {
    **{name: one.choices for name, one in _OPTIONS.items() if one.choices is not None},
    "profile": lambda: PROFILES,
}
# What an entry of a list must say, and what it may.
_ENTRIES: Mapping[str, tuple[Mapping[str, type], Mapping[str, type]]] = {
    "loras": ({"name": str, "weight": float}, {"sha256": str, "hash": str, "path": str}),
    "embeddings": ({"name": str, "word": str}, {"sha256": str, "hash": str, "path": str}),
}
_MOST_ENTRIES = 100
# EXIF is one segment of a JPEG, whose length is said in 16 bits.
_EXIF_ROOM = 65_000


@dataclass
class Found:
    """What a file says of how its picture was made.

    settings: by the names in TYPES and of those types.
    ignored: what else it says, in a few words each, safe to print.
    program: whose words they are, as `programs.READERS` calls it.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    program: str = field(default="", compare=False)


def described(settings: Mapping[str, Any]) -> dict[str, str]:
    """The texts for a PIL picture's `info`: webui's under `parameters`, ours under `pleinair`."""
    return {MAIN: _encodable(infotext.write(settings)), KEY: _json(settings)}


def of_picture(image: Image.Image) -> dict[str, Any]:
    """What a PIL picture's `info` says that `described` put there; {} where it says nothing."""
    said = READERS["Pleinair"]({KEY: str(image.info.get(KEY, ""))})
    return _checked(said.settings).settings if said else {}


def png_info(settings: Mapping[str, Any]) -> PngInfo:
    info = PngInfo()
    for name, text in described(settings).items():
        info.add_text(name, text)
    return info


def exif(settings: Mapping[str, Any]) -> bytes:
    """EXIF of the settings; of a very long prompt the JSON alone, or nothing, to fit its 64 KiB."""
    both = Image.Exif()
    both[ExifTags.Base.Software] = str(settings.get("version") or SOFTWARE)
    both[ExifTags.Base.ImageDescription] = _json(settings)
    brief = both.tobytes()
    # piexif, and so webui, writes big-endian UTF-16 whatever the byte order around it.
    comment = texts.UNICODE + infotext.write(settings).encode("utf-16-be", errors="replace")
    both.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    # Pillow calls the bytes BYTE; the standard says UNDEFINED, and piexif reads nothing else.
    full = both.tobytes()
    order = ">" if full.startswith(b"Exif\0\0MM") else "<"
    byte, undefined = (
        struct.pack(f"{order}HHL", ExifTags.Base.UserComment, type, len(comment)) for type in (1, 7)
    )
    full = full.replace(byte, undefined, 1)
    return next((data for data in (full, brief) if len(data) < _EXIF_ROOM), b"")


def read(source: str | Path | bytes) -> Found:
    """How the picture in a PNG, JPEG or WebP file was made, by whichever program's word there is.

    Ours is taken first; `programs` says which others, and in which order. A `.txt` or `.json` file
    that a program has saved beside a picture is read, too.

    source: the file, or a picture file's bytes.
    Raises SettingError where the file cannot be read, is damaged, or says nothing.
    """
    file = source if isinstance(source, bytes) else Path(source)
    where = UNNAMED if isinstance(file, bytes) else file
    found = texts_of(file)
    short = {name: text for name, text in found.items() if len(text) <= texts.LARGEST_TEXT}
    for program, reader in READERS.items():
        try:
            said = reader(short)
        except SettingError as error:
            raise SettingError(f"{where}: {error}") from error
        if said is None:
            continue
        checked = _checked(said.settings if said.typed else _converted(said.settings))
        if checked.settings:
            checked.ignored += [shown(name, 100) for name in said.ignored]
            checked.program = program
            return checked
    long = "; a text in it is too long to read" if len(short) < len(found) else ""
    raise SettingError(f"{where}: does not say how it was made{long}; give the settings as options")


def _converted(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Values that stand as text made numbers, where a number is meant and the text is one.

    Some programs write every number with a point, also one of steps.
    """
    values = dict(stated)
    for name, value in stated.items():
        kind = TYPES.get(name, str)
        if isinstance(value, str) and kind in (int, float) and len(value) < 40:
            try:
                values[name] = kind(value)
            except ValueError:
                continue
        elif isinstance(value, float) and kind is int and value.is_integer():
            values[name] = int(value)
        elif isinstance(value, list) and name in _ENTRIES:
            values[name] = [_converted_entry(entry) for entry in value]
    return values


def _converted_entry(entry: object) -> object:
    if isinstance(entry, dict) and type(entry.get("weight")) in (int, str):
        try:
            return {**entry, "weight": float(str(entry["weight"])[:40])}
        except ValueError:
            return entry
    return entry


def _checked(stated: Mapping[str, Any]) -> Found:
    """The values that can be used; of the others, what they are called and say."""
    found = Found()
    for name, value in stated.items():
        kind = TYPES.get(name)
        if kind is None:
            found.ignored.append(shown(name))
            continue
        if kind is float and type(value) is int and abs(value) < 2**53:
            value = float(value)
        if _usable(name, value, kind):
            found.settings[name] = value
        else:
            found.ignored.append(f"{name} {shown(value)}")
    return found


def _usable(name: str, value: object, kind: type) -> bool:
    if type(value) is not kind or (name in _CHOICES and value not in _CHOICES[name]()):
        return False
    if isinstance(value, list):
        return len(value) <= _MOST_ENTRIES and all(_entry(name, entry) for entry in value)
    if isinstance(value, str):
        return "\0" not in value and value == _encodable(value)
    if isinstance(value, float) and not math.isfinite(value):
        return False
    most = _OPTIONS[name].most if name in _OPTIONS else None
    return most is None or (isinstance(value, int | float) and 0 < value <= most)


def _entry(name: str, entry: object) -> bool:
    """Whether an entry of a list is one: what is named in it is a plain name, no path."""
    needed, more = _ENTRIES[name]
    if not isinstance(entry, dict) or not needed.keys() <= entry.keys() <= {*needed, *more}:
        return False
    kinds = {**needed, **more}
    return all(
        type(value) is kinds[key]
        and _usable(key, value, kinds[key])
        and (not isinstance(value, str) or _plain(value, path=key == "path"))
        for key, value in entry.items()
    )


def _plain(name: str, *, path: bool) -> bool:
    """Whether a name is a file's alone; a path may lie in folders, but leads to no other place."""
    if path:
        parts = PurePosixPath(name).parts
        return len(name) < 1000 and all(_plain(part, path=False) for part in parts)
    return re.fullmatch(r"[^:/\\]{1,255}", name) is not None and name != ".."


def _encodable(text: str) -> str:
    """The text without half surrogates, which are in no Unicode encoding."""
    return text.encode("utf-8", errors="replace").decode("utf-8")


def shown(value: object, length: int = 60) -> str:
    """A value from a stranger's file in a few printable characters: nothing a terminal obeys."""
    text = re.sub(r"\s+", " ", str(value))
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= length else text[: length - 1] + "…"


def _json(settings: Mapping[str, Any]) -> str:
    return json.dumps(dict(settings), default=str)
