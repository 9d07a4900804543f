"""State dicts read from files, without running code, whatever wrapping their writers left."""

import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from pleinair.runtime.errors import SourceError, shown

State = dict[str, torch.Tensor]

SUFFIXES = frozenset({".safetensors", ".ckpt", ".pt", ".pth", ".bin"})
"""Of files that may hold a state dict, in small letters; which format it is, its content says."""

# Where training frameworks put a state dict, in the order in which one is taken before another.
_NESTS = ("state_dict", "model_state_dict", "model", "module", "params_ema", "params", "ema")
_DEEPEST = 5
# What compiled (torch.compile) and data-parallel modules have in front of their names.
_COMPILED = re.compile(r"(^|\.)_orig_mod\.")
_PARALLEL = "module."

# What training leaves in checkpoints that inference does without: Stable Diffusion 1.4 has its
# callback's class as a key, others settings and counters. Of each the name is read and nothing is
# imported: an empty class, or a plain dictionary, stands in for it.
_CALLBACK = "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"
_LEFT_OVER = re.compile(
    r"(pytorch_lightning|lightning|lightning_fabric|omegaconf)\.[\w.]+|_codecs\.encode"
    r"|numpy\.(_?core\.multiarray\.(scalar|_reconstruct)|dtype|ndarray)"
)
# Formats that are no state dict, by how their files begin, and what to do.
_OTHERS = {
    b"GGUF": "a GGUF file; get the checkpoint as .safetensors",
    b"version https://git-lfs": "a Git LFS pointer in place of the file; fetch it: git lfs pull",
    b"<": "a web page; download the file itself",
    b"{": "a text file; get the checkpoint itself",
    b"\x89HDF": "a Keras file; get the checkpoint as .safetensors",
    b"ONNX": "an ONNX file; get the checkpoint as .safetensors",
}


class _Inert:
    """Takes what a pickle gives an object, and does nothing with it."""

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def read_checkpoint(file: Path) -> tuple[State, dict[str, Any]]:
    """Read one file: its tensors, and what it says beside them (metadata, the training's step).

    Raises `SourceError` when it is unreadable, or could run code.
    """
    begins = _beginning(file)
    # A safetensors file begins with the length of its header, which may look like a pickle's mark.
    is_safetensors = begins[8:9] == b"{" and not begins.startswith(b"PK")
    if begins.startswith((b"PK", b"\x80")) and not is_safetensors:
        state, said = _unpickle(file)
    else:
        for start, name in _OTHERS.items():
            if begins.startswith(start):
                raise SourceError(f"{file} is {name}")
        state, said = _read_safetensors(file)
    return _scaled(_bare(state), file), said


def _beginning(file: Path) -> bytes:
    try:
        if not file.is_file():
            raise SourceError(f"{file} is no regular file; give the checkpoint itself")
        with file.open("rb") as opened:
            return opened.read(64)
    except OSError as error:
        raise SourceError(f"{file} cannot be read: {error.strerror}") from error


def _read_safetensors(file: Path) -> tuple[State, dict[str, Any]]:
    try:
        with safe_open(file, framework="pt") as tensors:
            state = {key: tensors.get_tensor(key) for key in tensors.keys()}  # noqa: SIM118
            return state, dict(tensors.metadata() or {})
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        reason = shown(_first_line(error), 300)
        raise SourceError(f"{file} is not a readable safetensors file: {reason}") from error


def _unpickle(file: Path) -> tuple[State, dict[str, Any]]:
    """Read a pickled checkpoint by torch's weights-only loader, which builds tensors alone."""
    try:
        with torch.serialization.safe_globals(_stand_ins(file)):
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=_is_zip(file))
    except pickle.UnpicklingError as error:
        raise SourceError(
            f"{file} holds more than tensors ({_refused_global(error)}), which could run code when "
            "read; get it as .safetensors, or convert it on a machine that you can lose"
        ) from error
    except Exception as error:  # a pickle made up by someone can fail in any way
        reason = shown(_first_line(error), 300)
        raise SourceError(f"{file} is not a readable checkpoint: {reason}") from error
    if not isinstance(content, Mapping):
        raise SourceError(f"{file} holds no state dict but a {type(content).__name__}")
    said = {key: value for key, value in content.items() if isinstance(value, int | str)}
    return _unwrapped(content), said


def _unwrapped(content: Mapping[Any, Any]) -> State:
    """The tensors of a pickled checkpoint, from the level at which the most are."""
    for _ in range(_DEEPEST):
        inner = next(
            (content[key] for key in _NESTS if isinstance(content.get(key), Mapping)), None
        )
        if inner is None or len(_tensors(inner)) < len(_tensors(content)):
            break
        content = inner
    return _tensors(content)


def _tensors(content: Mapping[Any, Any]) -> State:
    return {
        key: value
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, torch.Tensor)
    }


def _bare(state: State) -> State:
    """Without what compiled and data-parallel modules put before their names."""
    names = {key: _COMPILED.sub(r"\1", key) for key in state}
    if names and all(name.startswith(_PARALLEL) for name in names.values()):
        names = {key: name.removeprefix(_PARALLEL) for key, name in names.items()}
    return {names[key]: value for key, value in state.items()}


def _scaled(state: State, file: Path) -> State:
    """Float8 weights with a scale beside them, as ComfyUI saves them, multiplied by it.

    Raises `SourceError` for weights packed into integers, which only their own program unpacks.
    """
    packed = [key for key in state if re.search(r"\.(quant_state\.|absmax$|qweight$)", key)]
    if packed:
        raise SourceError(
            f"{file} holds weights packed into 4 or 8 bits ({packed[0]}); get the checkpoint in "
            "float16, and make 8-bit graphs of its export by pleinair-quantize"
        )
    scales = {
        key: state.pop(key)
        for key in list(state)
        if key.endswith((".scale_weight", ".weight_scale", ".scale_input", ".input_scale"))
    }
    state.pop("scaled_fp8", None)
    for key, scale in scales.items():
        weight = f"{key.rpartition('.')[0]}.weight"
        if "weight" in key.rpartition(".")[2] and weight in state:
            state[weight] = state[weight].float() * scale.float()
    return state


def _stand_ins(file: Path) -> list[Any]:
    """Pair inert classes with the names in `file` that they are read instead of."""
    names = {_CALLBACK}
    if _is_zip(file):
        unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(file)
        names |= {name for name in unsafe if _LEFT_OVER.fullmatch(name)}
    # torch fills dictionaries, and nothing derived from one.
    return [
        (OrderedDict if name.endswith(".AttributeDict") else _Inert, name) for name in sorted(names)
    ]


def _is_zip(file: Path) -> bool:
    # Only the zip format, of torch 1.6 and later, can be mapped into memory.
    with file.open("rb") as opened:
        return opened.read(2) == b"PK"


def _refused_global(error: Exception) -> str:
    found = re.search(r"GLOBAL (\S+)", str(error))
    line: str = shown(found.group(1) if found else _first_line(error), 200)
    return line


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
