"""Arrays from `.pt`, `.bin` and `.ckpt` files, without torch and without running what they ask for.

torch.save writes a zip: `NAME/data.pkl` describes the objects, `NAME/data/0` … hold the numbers. A
pickle may name any function to be called. This one is given tensors, parameters and dictionaries
under torch's names, and refuses every other name before anything is called.
"""

import math
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import AdapterError, shown
from .floats import from_bfloat16, from_e4m3fn, from_e5m2
from .unpickling import RefusedError, Unpickling

Array = NDArray[Any]

_LONGEST_PICKLE = 8 << 20  # bytes; a whole checkpoint's is about one million
_MOST_ENTRIES = 20_000
_MOST_AXES = 8
_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
_STORED = {"bfloat16": "uint16", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8"}
_WIDENED: dict[str, Callable[[Any], Array]] = {
    "bfloat16": from_bfloat16,
    "float8_e4m3fn": from_e4m3fn,
    "float8_e5m2": from_e5m2,
}
_UNTYPED = "UntypedStorage"
_TYPES = {*_STORAGES.values(), *_STORED, "uint16", "uint32", "uint64"}


def read(path: Path) -> Any:
    """The object in a file of torch.save: dictionaries, texts, numbers, tensors as arrays.

    Raises AdapterError where the file is unreadable, or names anything that could run code.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _Archive(archive, path.stat().st_size).load()
    except RefusedError as error:
        raise AdapterError(f"{path}: {error}; get it as .safetensors") from error
    except zipfile.BadZipFile as error:
        raise AdapterError(
            f"{path}: no zip, as torch writes since 1.6; get it as .safetensors, or save it anew"
        ) from error
    except Exception as error:  # a pickle made up by someone can fail in any way
        reason = shown(str(error), 200)
        raise AdapterError(f"{path}: unreadable ({reason}); get it as .safetensors") from error


class _Storage(NamedTuple):
    """Numbers of a file, and their type, where torch has put it down beside them."""

    values: Callable[[str], Array]
    type: str | None


class _Archive:
    """A zip of torch.save, none of whose entries is larger in memory than it is in the file."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("it is compressed, as torch writes none")
        if len(entries) > _MOST_ENTRIES or sum(entry.file_size for entry in entries) > size:
            raise ValueError("its entries are too many, or overlap")
        self._archive = archive
        self._names = set(archive.namelist())
        pickled = [name for name in self._names if name.endswith("/data.pkl")]
        if len(pickled) != 1:
            raise ValueError("it has no data.pkl, as torch.save writes one")
        self._pickle = pickled[0]
        self._folder = self._pickle.removesuffix("data.pkl")
        self._values = lru_cache(maxsize=None)(self._read)

    def load(self) -> Any:
        order = f"{self._folder}byteorder"
        if order in self._names and self._archive.read(order) != b"little":
            raise ValueError("its numbers are big-endian")
        if self._archive.getinfo(self._pickle).file_size > _LONGEST_PICKLE:
            raise ValueError("its pickle is too long")
        return Unpickling(_named, _called, self._stored, _told).load(
            self._archive.read(self._pickle)
        )

    def _stored(self, pid: Any) -> _Storage:
        """torch's persistent id: ("storage", type, key, device, count)."""
        kind, type_, key, *_ = pid
        if kind != "storage" or not isinstance(type_, _Type) or type(key) is not str:
            raise ValueError("it refers to what is no storage")
        return _Storage(lambda dtype: self._values(key, dtype), _STORAGES.get(type_.name))

    def _read(self, key: str, dtype: str) -> Array:
        content = self._archive.read(f"{self._folder}data/{key}")
        values = np.frombuffer(content, np.dtype(_STORED.get(dtype, dtype)).newbyteorder("<"))
        return _WIDENED[dtype](values) if dtype in _WIDENED else values


class _Type(NamedTuple):
    """A storage class or a number type, by torch's name."""

    name: str


class ParameterDict:
    """The first textual inversion files keep their vectors in a torch module; here it is inert."""

    def __init__(self) -> None:
        self.tensors: dict[str, Array] = {}


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Array:
    """torch's view of a storage, which must not reach outside it, nor be larger.

    rest: requires_grad, hooks and, since torch 2.1, the number type of an untyped storage.
    """
    dtype = rest[2].name if len(rest) > 2 and isinstance(rest[2], _Type) else None
    if not isinstance(storage, _Storage) or (dtype or storage.type) not in _TYPES:
        raise ValueError("a tensor of no known numbers")
    counts = (offset, *size, *stride)
    if (
        len(size) != len(stride)
        or len(size) > _MOST_AXES
        or any(type(n) is not int for n in counts)
    ):
        raise ValueError("a tensor of impossible shape")
    if min(counts) < 0:
        raise ValueError("a tensor of impossible shape")
    values = storage.values(dtype or storage.type or "")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) == 0 or last >= len(values):
        raise ValueError("a tensor reaches outside its numbers")
    if math.prod(size) > len(values):  # steps of 0 cost nothing to store
        raise ValueError("a tensor is larger than its numbers")
    steps = [step * values.itemsize for step in stride]
    view: Array = np.lib.stride_tricks.as_strided(values[offset:], size, steps, writeable=False)
    return view


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _size(*of: Any) -> tuple[Any, ...]:
    return tuple(of[0]) if of else ()


def _dictionary() -> OrderedDict[str, Any]:
    return OrderedDict()


_ALLOWED: dict[str, Callable[..., Any]] = {
    "collections OrderedDict": _dictionary,
    "torch Size": _size,
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_tensor_v3": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
    "torch.nn.modules.container ParameterDict": ParameterDict,
}


def _named(name: str) -> Any:
    module, _, last = name.partition(" ")
    if (module == "torch" and last in (*_STORAGES, *_TYPES)) or name == f"torch.storage {_UNTYPED}":
        return _Type(last)
    if name not in _ALLOWED:
        asked = shown(name.replace(" ", "."))
        raise RefusedError(f"it asks for {asked}, which could run code, and is refused")
    return _ALLOWED[name]


def _called(function: Any, arguments: Any) -> Any:
    # Compared one by one: what lies on the stack need not be hashable.
    if not any(function is known for known in _ALLOWED.values()) or type(arguments) is not tuple:
        raise RefusedError("it calls what is no function of torch's, and is refused")
    return function(*arguments)


def _told(target: Any, state: Any) -> None:
    if isinstance(target, ParameterDict):
        found = state.get("_parameters") if type(state) is dict else None
        if not isinstance(found, dict):
            raise ValueError("its parameters are no dictionary")
        target.tensors = found
    elif type(target) is not OrderedDict:  # whose state is a module's version, and means nothing
        raise ValueError("it changes a function, or what is no dictionary")


def parameters(found: Any) -> Any:
    """What a `torch.nn.ParameterDict` held, as a dictionary; anything else as it is."""
    return found.tensors if isinstance(found, ParameterDict) else found
