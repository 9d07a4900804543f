"""Arrays from safetensors files.

The format is a JSON header behind its length in eight bytes, then the numbers. The library of that
name cannot give bfloat16 to numpy, which has no such type; LoRA files are often stored so.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import AdapterError

Array = NDArray[Any]

_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}
_LONGEST_HEADER = 100_000_000  # the limit of the format's own library


def read(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """The tensors of a file by name, and its metadata.

    Arrays are mapped from the file, not loaded; bfloat16 comes as float32.
    Raises AdapterError where the file is missing, truncated or of another format.
    """
    if not path.is_file():
        raise AdapterError(f"{path}: no such file; give the path of a .safetensors file")
    try:
        raw = np.memmap(path, np.uint8, mode="r")
        header, body = _parted(raw)
        metadata = header.pop("__metadata__", {})
        tensors = {name: _tensor(facts, body) for name, facts in header.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AdapterError(
            f"{path}: not a whole safetensors file ({error}); get it anew"
        ) from error
    return tensors, {str(key): str(value) for key, value in metadata.items()}


def _parted(raw: NDArray[np.uint8]) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    length = int.from_bytes(raw[:8].tobytes(), "little")
    if len(raw) < 8 or length > min(len(raw) - 8, _LONGEST_HEADER):
        raise ValueError("its header is cut off")
    header = json.loads(raw[8 : 8 + length].tobytes())
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    return header, raw[8 + length :]


def _tensor(facts: dict[str, Any], body: NDArray[np.uint8]) -> Array:
    if facts["dtype"] not in _TYPES:
        raise ValueError(f"numbers of type {facts['dtype']}")
    dtype = np.dtype(_TYPES[facts["dtype"]])
    shape = tuple(int(size) for size in facts["shape"])
    begin, end = (int(offset) for offset in facts["data_offsets"])
    if not 0 <= begin <= end <= len(body) or min(shape, default=0) < 0:
        raise ValueError("numbers are cut off")
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError("sizes do not match shapes")
    values = np.frombuffer(body[begin:end], dtype).reshape(shape)
    return from_bfloat16(values) if facts["dtype"] == "BF16" else values


def from_bfloat16(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """bfloat16 is the upper half of a float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
