"""Arrays from `.pt` and `.bin` files, without torch and without running what they ask for.

torch.save writes a zip: `NAME/data.pkl` describes the objects, `NAME/data/0` … hold the numbers. A
pickle may name any function to be called. This one is given tensors, parameters and dictionaries
under torch's names, and refuses every other name before anything is called.
"""

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import AdapterError
from .safetensors import from_bfloat16

Array = NDArray[Any]

_LARGEST = 1 << 30  # bytes unpacked; an embedding is some kilobytes
_TYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


def read(path: Path) -> Any:
    """The object in a file of torch.save: dictionaries, texts, numbers, tensors as arrays.

    Raises AdapterError where the file is unreadable, or names anything that could run code.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _LARGEST:
                raise ValueError("it is too large for an embedding")
            return _load(archive)
    except pickle.UnpicklingError as error:
        raise AdapterError(f"{path}: {error}; get it as .safetensors") from error
    except zipfile.BadZipFile as error:
        raise AdapterError(
            f"{path}: no zip, as torch writes since 1.6; get it as .safetensors, or save it anew"
        ) from error
    except Exception as error:  # a pickle made up by someone can fail in any way
        raise AdapterError(f"{path}: unreadable ({error}); get it as .safetensors") from error


def _load(archive: zipfile.ZipFile) -> Any:
    (name,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    folder = name.removesuffix("data.pkl")
    if (
        f"{folder}byteorder" in archive.namelist()
        and archive.read(f"{folder}byteorder") != b"little"
    ):
        raise ValueError("its numbers are big-endian")
    return _Unpickler(archive, folder).load()


class _Unpickler(pickle.Unpickler):
    """Looks no name up: `_ALLOWED` is all there is."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{folder}data.pkl")))
        self._archive = archive
        self._folder = folder

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _TYPES:
            return name
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which could run code, and is refused"
            )
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Array:
        kind, storage, key, _, count = pid
        if kind != "storage":
            raise ValueError(f"it refers to {kind}")
        content = self._archive.read(f"{self._folder}data/{key}")
        values = np.frombuffer(content, _TYPES[storage], int(count))
        return from_bfloat16(values) if storage == "BFloat16Storage" else values


def _tensor(
    storage: Array, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Array:
    """torch's view of a storage, which must not reach outside it."""
    if len(size) != len(stride) or min((offset, *size, *stride)) < 0:
        raise ValueError("a tensor of impossible shape")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if math.prod(size) == 0 or last >= len(storage):
        raise ValueError("a tensor reaches outside its numbers")
    if math.prod(size) * storage.itemsize > _LARGEST:  # steps of 0 cost nothing to store
        raise ValueError("a tensor is too large for an embedding")
    steps = [step * storage.itemsize for step in stride]
    view: Array = np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False)
    return np.array(view)


def _parameter(data: Array, *_: Any) -> Array:
    return data


class _ParameterDict:
    """The first textual inversion files keep their vectors in a torch module; here it is inert."""

    def __init__(self) -> None:
        self.tensors: dict[str, Array] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.tensors = dict(state["_parameters"])


class _Function:
    """A callable that a pickle can call, and do nothing else with."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise ValueError("it changes a function")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _Function(lambda *items: OrderedDict(*items)),
    ("torch._utils", "_rebuild_tensor_v2"): _Function(_tensor),
    ("torch._utils", "_rebuild_parameter"): _Function(_parameter),
    ("torch.nn.modules.container", "ParameterDict"): _ParameterDict,
}


def parameters(found: Any) -> Any:
    """What a `torch.nn.ParameterDict` held, as a dictionary; anything else as it is."""
    return found.tensors if isinstance(found, _ParameterDict) else found
