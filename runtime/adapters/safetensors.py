"""Arrays from safetensors files.

The format is a JSON header behind its length in eight bytes, then the numbers. The library of that
name cannot give bfloat16 or float8 to numpy, which has no such types; LoRA files are often stored
so.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..errors import AdapterError, shown
from .floats import from_bfloat16, from_e4m3fn, from_e5m2

Array = NDArray[Any]

_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "F8_E4M3": "u1",
    "F8_E5M2": "u1",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}
_WIDENED: dict[str, Callable[[Any], Array]] = {
    "BF16": from_bfloat16,
    "F8_E4M3": from_e4m3fn,
    "F8_E5M2": from_e5m2,
}
_LONGEST_HEADER = 32 << 20
"""Bytes; of a large checkpoint it is about one million, and trainers' notes are some millions."""

_Size = Annotated[int, msgspec.Meta(ge=0, lt=1 << 48)]


class _Facts(msgspec.Struct):
    """What the header says of a tensor."""

    dtype: str
    shape: Annotated[list[_Size], msgspec.Meta(max_length=16)]
    data_offsets: tuple[_Size, _Size]


def read(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """The tensors of a file by name, and its metadata.

    Arrays are mapped from the file, not loaded; bfloat16 comes as float32, float8 as float16.
    Raises AdapterError where the file is truncated, damaged or of another format.
    """
    try:
        raw = np.memmap(path, np.uint8, mode="r")
        facts, metadata, body = _parted(raw)
        _require_cover(facts, len(body))
        tensors = {name: _tensor(name, one, body) for name, one in facts.items()}
    except (OSError, ValueError, msgspec.MsgspecError, RecursionError) as error:
        reason = shown(str(error), 200)
        raise AdapterError(
            f"{path}: not a whole safetensors file ({reason}); get it anew"
        ) from error
    return tensors, metadata


def _parted(raw: NDArray[np.uint8]) -> tuple[dict[str, _Facts], dict[str, str], Array]:
    length = int.from_bytes(raw[:8].tobytes(), "little")
    if len(raw) < 8 or length > len(raw) - 8:
        raise ValueError("its header is cut off")
    if length > _LONGEST_HEADER:
        raise ValueError(f"a header of {length:,} bytes")
    header = msgspec.json.decode(raw[8 : 8 + length].tobytes(), type=dict[str, msgspec.Raw])
    notes = header.pop("__metadata__", msgspec.Raw(b"{}"))
    metadata = msgspec.json.decode(notes, type=dict[str, str] | None)
    facts = {name: msgspec.json.decode(one, type=_Facts) for name, one in header.items()}
    return facts, metadata or {}, raw[8 + length :]


def _require_cover(facts: Mapping[str, _Facts], size: int) -> None:
    """Every byte belongs to one tensor, as the format wants it.

    So no name can be there twice with different numbers, and nothing is missing at the end.
    """
    at = 0
    for begin, end in sorted(one.data_offsets for one in facts.values()):
        if begin != at or end < begin:
            raise ValueError("its tensors overlap, or leave gaps")
        at = end
    if at != size:
        raise ValueError(f"{size:,} bytes of numbers where its header says {at:,}")


def _tensor(name: str, facts: _Facts, body: Array) -> Array:
    if facts.dtype not in _TYPES:
        raise ValueError(f"{shown(name)} has numbers of type {shown(facts.dtype)}, not known here")
    dtype = np.dtype(_TYPES[facts.dtype])
    begin, end = facts.data_offsets
    if end - begin != math.prod(facts.shape) * dtype.itemsize:
        raise ValueError(f"the size of {shown(name)} does not match its shape")
    values = np.frombuffer(body[begin:end], dtype).reshape(facts.shape)
    widen = _WIDENED.get(facts.dtype)
    return values if widen is None else widen(values)
