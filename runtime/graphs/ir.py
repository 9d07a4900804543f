"""An OpenVINO IR file read as text: its constants and its inputs, without OpenVINO."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import BundleError

_MOST = 256 << 20
"""Bytes of the largest IR file that is read; Stable Diffusion XL's UNet takes about 20 MB."""

# No tag reaches over the next one's beginning: a file of beginnings alone is read in one pass.
_DATA = re.compile(rb"<data\b([^<>]*)>")
_ATTRIBUTE = re.compile(rb'\b(\w+)="([^"]{0,200})"')
_PARAMETER = re.compile(
    rb'<layer\b([^<>]*\btype="Parameter"[^<>]*)>((?:(?!<layer).){0,4000}?)</layer>', re.S
)
_NAMES = re.compile(rb'\bnames="([^"]{1,1000})"')
_NUMBER = re.compile(rb"\d{1,18}")

Shape = tuple[int | None, ...]
"""Sizes of an input; None where one is free."""


class Constant(NamedTuple):
    """Where a constant's numbers lie in the weights file, in bytes; kind: "f16", "i64" …"""

    kind: str
    offset: int
    size: int

    @property
    def end(self) -> int:
        return self.offset + self.size


def read(path: Path) -> bytes:
    """The file; BundleError where it is too large to be one, or cannot be read."""
    try:
        if (size := path.stat().st_size) > _MOST:
            raise BundleError(f"{path}: {size:,} bytes are too many for a graph; convert it anew")
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); copy it anew") from error


def constants(text: bytes) -> Iterator[Constant]:
    """All constants of a file's text."""
    for data in _DATA.finditer(text):
        facts = dict(_ATTRIBUTE.findall(data[1]))
        offset, size = facts.get(b"offset", b""), facts.get(b"size", b"")
        if _NUMBER.fullmatch(offset) and _NUMBER.fullmatch(size):
            kind = facts.get(b"element_type", b"").decode(errors="replace")
            yield Constant(kind, int(offset), int(size))


def inputs(text: bytes) -> dict[str, Shape | None]:
    """Name -> shape of the inputs in a file's text; None is any."""
    found: dict[str, Shape | None] = {}
    for layer in _PARAMETER.finditer(text):
        data = _DATA.search(layer[2])
        shape = dict(_ATTRIBUTE.findall(data[1])).get(b"shape") if data else None
        given = shape.replace(b" ", b"").split(b",") if shape else []
        sizes = tuple(int(size) if _NUMBER.fullmatch(size) else None for size in given)
        known = shape is not None and b"..." not in shape
        named = _NAMES.search(layer[2])
        layer_name = dict(_ATTRIBUTE.findall(layer[1])).get(b"name", b"")
        for name in named[1].split(b",") if named else [layer_name]:
            found[name.decode(errors="replace")] = sizes if known else None
    return found
