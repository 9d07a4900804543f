"""How a picture was made, kept inside its file: written for three readers, read back from four.

A PNG carries webui's text under `parameters` and our JSON under `pleinair`. JPEG and WebP carry the
same in EXIF: the text as UserComment, as webui writes it, the JSON as ImageDescription. What comes
back out of a file may be anybody's: it is parsed as text and JSON and nothing else, limited in
size, and only values of the right type are kept.
"""

import contextlib
import json
import math
import re
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from ..errors import SettingError
from ..families import GROUPS
from ..options.groups import PROFILES, Opening
from ..options.option import Option, declared
from . import infotext

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
    "precision": str,
    "solver": str,
    "version": str,
}
_CHOICES: Mapping[str, Callable[[], Sequence[str]]] = {
    **{name: one.choices for name, one in _OPTIONS.items() if one.choices is not None},
    "profile": lambda: PROFILES,
    "precision": lambda: ("full", "autocast"),
}
# What an entry of a list must say, and what it may.
_ENTRIES: Mapping[str, tuple[Mapping[str, type], Mapping[str, type]]] = {
    "loras": ({"name": str, "weight": float}, {"sha256": str, "hash": str}),
    "embeddings": ({"name": str, "word": str}, {"sha256": str, "hash": str}),
}
_MOST_ENTRIES = 100
# No picture is painted larger in one go; a file that says so would only exhaust the memory.
_LARGEST_SIDE = 4096

_TEXT_KEY = "parameters"
_JSON_KEY = "pleinair"
_SOFTWARE = "Pleinair"
_UNICODE = b"UNICODE\0"
_OTHER_CODES = (b"ASCII\0\0\0", b"\0" * 8)
# EXIF is one segment of a JPEG, whose length is said in 16 bits.
_EXIF_ROOM = 65_000
_LARGEST_FILE = 200 << 20
_LARGEST_TEXT = 1 << 20

# bes-dev's demo.py: every argument under this prefix, and the lot as JSON in EXIF.
_DEMO_PREFIX = "stable_diffusion_"
_DEMO_SOFTWARE = "stable_diffusion.openvino"
# It paints text with LMS, pictures with PLMS, at one size, and says none of it.
_DEMO_UNSAID = {"scheduler": "lms", "width": 512, "height": 512}


@dataclass
class Found:
    """What a file says of how its picture was made.

    settings: by the names in TYPES and of those types.
    ignored: what else it says, in a few words each, safe to print.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)


def png_info(settings: Mapping[str, Any]) -> PngInfo:
    info = PngInfo()
    info.add_text(_TEXT_KEY, _encodable(infotext.write(settings)))
    info.add_text(_JSON_KEY, _json(settings))
    return info


def exif(settings: Mapping[str, Any]) -> bytes:
    """EXIF of the settings; of a very long prompt the JSON alone, or nothing, to fit its 64 KiB."""
    both = Image.Exif()
    both[ExifTags.Base.Software] = str(settings.get("version") or _SOFTWARE)
    both[ExifTags.Base.ImageDescription] = _json(settings)
    brief = both.tobytes()
    # piexif, and so webui, writes big-endian UTF-16 whatever the byte order around it.
    comment = _UNICODE + infotext.write(settings).encode("utf-16-be", errors="replace")
    both.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    # Pillow calls the bytes BYTE; the standard says UNDEFINED, and piexif reads nothing else.
    full = both.tobytes()
    order = ">" if full.startswith(b"Exif\0\0MM") else "<"
    byte, undefined = (
        struct.pack(f"{order}HHL", ExifTags.Base.UserComment, type, len(comment)) for type in (1, 7)
    )
    full = full.replace(byte, undefined, 1)
    return next((data for data in (full, brief) if len(data) < _EXIF_ROOM), b"")


def read(path: str | Path) -> Found:
    """How the picture in a PNG, JPEG or WebP file was made, by whichever system's word there is.

    Ours is taken first, then webui's, then that of bes-dev's demo.py. The pixels are not looked at.
    Raises SettingError where the file cannot be read or says nothing.
    """
    texts = _texts(Path(path))
    for reader in (_ours, _webui, _demo):
        found = reader(texts)
        if found is not None:
            return found
    raise SettingError(f"{path}: does not say how it was made; give the settings as options")


def _texts(path: Path) -> dict[str, str]:
    """The texts in a picture's file by name: a PNG's own, and those of EXIF by their tags."""
    if not path.is_file():
        raise SettingError(f"{path}: no such picture file")
    if path.stat().st_size > _LARGEST_FILE:
        raise SettingError(f"{path}: too large to read settings from")
    try:
        with _quiet(), Image.open(path, formats=("PNG", "JPEG", "WEBP")) as image:
            texts = {**_exif_texts(image.getexif()), **_strings(image.info)}
            if image.format == "PNG" and not texts and max(image.size) <= _LARGEST_SIDE:
                image.load()  # some programs write their texts after the pixels
                texts.update(_strings(image.info))
    except Exception as error:  # a file made to harm can raise anything in a decoder
        raise SettingError(f"{path}: cannot be read as a picture: {shown(error)}") from error
    return {name: text for name, text in texts.items() if len(text) <= _LARGEST_TEXT}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Pillow's remarks on damaged EXIF."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _strings(info: Mapping[Any, Any]) -> dict[str, str]:
    return {
        name: value
        for name, value in info.items()
        if isinstance(name, str) and isinstance(value, str)
    }


def _exif_texts(exif: Image.Exif) -> dict[str, str]:
    comment = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
    software = exif.get(ExifTags.Base.Software)
    described = exif.get(ExifTags.Base.ImageDescription)
    texts = {}
    if isinstance(comment, bytes):
        texts[_TEXT_KEY] = _user_comment(comment)
    if isinstance(described, str) and isinstance(software, str):
        texts[software.partition(" ")[0]] = described
    return texts


def _user_comment(comment: bytes) -> str:
    """A UserComment's text: UTF-16 of either byte order where it says so, else taken for UTF-8."""
    if not comment.startswith(_UNICODE):
        start = 8 if comment.startswith(_OTHER_CODES) else 0
        return comment[start:].decode("utf-8", errors="replace").strip("\0")
    encoded = comment[len(_UNICODE) :]
    # Of the two orders that is right which gives a field's name; piexif's where neither does.
    orders = (encoded.decode(f"utf-16-{order}", errors="replace") for order in ("be", "le"))
    texts = [text.removeprefix("\ufeff") for text in orders]
    return next((text for text in texts if "Steps: " in text), texts[0])


def _ours(texts: Mapping[str, str]) -> Found | None:
    stated = _object(texts.get(_JSON_KEY) or texts.get(_SOFTWARE))
    return _checked(stated) if stated else None


def _webui(texts: Mapping[str, str]) -> Found | None:
    if not texts.get(_TEXT_KEY, "").strip():
        return None
    stated, meaningless = infotext.read(texts[_TEXT_KEY])
    found = _checked(_converted(stated))
    found.ignored += [shown(name) for name in meaningless]
    return found


def _demo(texts: Mapping[str, str]) -> Found | None:
    """bes-dev's form; an earlier one of his had the bare names of a few arguments."""
    stated = _object(texts.get(_DEMO_SOFTWARE)) or texts
    stated = {
        name.removeprefix(_DEMO_PREFIX): value
        for name, value in stated.items()
        if name.startswith(_DEMO_PREFIX)
    } or _bare(texts)
    if not stated:
        return None
    if "init_image" in stated:
        return _checked(_converted({**_DEMO_UNSAID, **stated, "scheduler": "plms"}))
    return _checked(_converted({**_DEMO_UNSAID, **stated}))


def _bare(texts: Mapping[str, str]) -> dict[str, str]:
    if not texts.get("tool", "").startswith("stable diffusion openvino"):
        return {}
    names = {
        "prompt": "prompt",
        "seed": "seed",
        "num-inference-steps": "num_inference_steps",
        "guidancescale": "guidance_scale",
    }
    return {ours: texts[theirs] for theirs, ours in names.items() if theirs in texts}


def _object(text: str | None) -> dict[str, Any]:
    """The JSON object that a text is; {} where it is none."""
    try:
        value = json.loads(text or "")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _converted(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Values that stand as text made numbers, where a number is meant and the text is one."""
    values = dict(stated)
    for name, value in stated.items():
        kind = TYPES.get(name, str)
        if isinstance(value, str) and kind is not str and len(value) < 40:
            try:
                values[name] = kind(value)
            except ValueError:
                continue
    return values


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
    if isinstance(value, float):
        return math.isfinite(value)
    most = _OPTIONS[name].most if name in _OPTIONS else None
    return most is None or (isinstance(value, int) and 0 < value <= most)


def _entry(name: str, entry: object) -> bool:
    """Whether an entry of a list is one: what is named in it is a plain name, no path."""
    needed, more = _ENTRIES[name]
    if not isinstance(entry, dict) or not needed.keys() <= entry.keys() <= {*needed, *more}:
        return False
    kinds = {**needed, **more}
    return all(
        type(value) is kinds[key]
        and _usable(key, value, kinds[key])
        and (not isinstance(value, str) or re.fullmatch(r"[^:/\\]{1,255}", value) is not None)
        for key, value in entry.items()
    )


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
