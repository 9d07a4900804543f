"""State dicts: read them from disk without running code, load them into a module strictly.

`from_pretrained` fills a missing weight with random numbers and only warns; here a missing, an
unexpected or a misshapen weight is an error that names it.
"""

import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from pleinair.runtime.errors import SourceError
from pleinair.runtime.hub.selection import choose

State = dict[str, torch.Tensor]

# Where weights are stored as float16, tensors of fewer values stay float32: they are a thousandth
# of the size, and among them are numbers, like a table of frequencies, that must be exact.
HALF_FROM = 4096

# Buffers that older versions stored and newer ones compute.
_HARMLESS = re.compile(r"(^|\.)embeddings\.position_ids$")

# transformers before 5.6 has CLIP's vision model twice in the names of a safety checker.
_VISION = "vision_model."

# Spellings of a VAE attention block before diffusers 0.15.
_OLD_ATTENTION = {
    ".query.": ".to_q.",
    ".key.": ".to_k.",
    ".value.": ".to_v.",
    ".proj_attn.": ".to_out.0.",
}

# What training leaves in checkpoints that inference does without: Stable Diffusion 1.4 has its
# callback's class as a key, others settings and counters. Of each the name is read and nothing is
# imported: an empty class, or a plain dictionary, stands in for it.
_CALLBACK = "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"
_LEFT_OVER = re.compile(
    r"(pytorch_lightning|lightning|lightning_fabric|omegaconf)\.[\w.]+|_codecs\.encode"
    r"|numpy\.(_?core\.multiarray\.(scalar|_reconstruct)|dtype|ndarray)"
)


class _Inert:
    """Takes what a pickle gives an object, and does nothing with it."""

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def find_weights(folder: Path) -> list[Path]:
    """Return the weight files of one sub-model's folder; `SourceError` when there are none."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return [folder / name for name in choose(names, str(folder))]


def read_weights(files: list[Path]) -> State:
    """Read and merge state dicts. Safetensors stay memory-mapped until a tensor is converted."""
    state: State = {}
    for file in files:
        state.update(read_checkpoint(file)[0])
    return state


def read_checkpoint(file: Path) -> tuple[State, dict[str, Any]]:
    """Read one file: its tensors, and what it says beside them (metadata, the training's step).

    Raises `SourceError` when it is unreadable, or could run code.
    """
    return _read_safetensors(file) if file.suffix == ".safetensors" else _unpickle(file)


def _read_safetensors(file: Path) -> tuple[State, dict[str, Any]]:
    try:
        with safe_open(file, framework="pt") as tensors:
            state = {key: tensors.get_tensor(key) for key in tensors.keys()}  # noqa: SIM118
            return state, dict(tensors.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise SourceError(f"{file} is not a readable safetensors file: {error}") from error


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
    except (RuntimeError, EOFError, OSError) as error:
        raise SourceError(f"{file} is not a readable checkpoint: {_first_line(error)}") from error
    if not isinstance(content, Mapping):
        raise SourceError(f"{file} holds no state dict but a {type(content).__name__}")
    said = {key: value for key, value in content.items() if isinstance(value, int | str)}
    state = content.get("state_dict")
    state = state if isinstance(state, Mapping) else content
    return {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}, said


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
    return found.group(1) if found else _first_line(error)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def load(module: torch.nn.Module, state: State, origin: str) -> None:
    """Put `state` into `module`, which may still be on the meta device, as float32.

    `origin` names the source in errors. Raises `SourceError` when a key is missing, unexpected or
    has another shape. `state` is emptied on the way, so that weights are held once.
    """
    wanted = dict(module.state_dict(keep_vars=True))
    _respell(state, wanted)
    shared = _shared(state, wanted)
    _check(state, {key: value for key, value in wanted.items() if key not in shared}, origin)
    converted = _as_float32(state)
    converted |= {key: converted[held] for key, held in shared.items()}
    module.load_state_dict(converted, strict=True, assign=True)
    for key, held in shared.items():  # assigned as parameters of one storage: one again
        layer, _, name = key.rpartition(".")
        setattr(module.get_submodule(layer), name, module.get_parameter(held))
    _fill_positions(module)
    module.requires_grad_(False).eval()


def _respell(state: State, wanted: Mapping[str, torch.Tensor]) -> None:
    """Rename, in place, the spellings that changed between versions of the libraries."""
    for key in list(state):
        new = key
        if ".attentions." in key:
            for old_name, new_name in _OLD_ATTENTION.items():
                new = new.replace(old_name, new_name)
        # transformers 5.6 dropped the prefix that every published checkpoint carries.
        if new not in wanted:
            bare = new.removeprefix("text_model.")
            spellings = (bare, f"text_model.{bare}", new.removeprefix(_VISION), _VISION + new)
            new = next((k for k in spellings if k in wanted), new)
        if new not in wanted and _HARMLESS.search(new):
            del state[key]
        elif new != key:
            state[new] = state.pop(key)


def _shared(state: State, wanted: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """Weights that `state` lacks, since layers share them -> the name that it has them by.

    wanted: the module's parameters and buffers themselves, by which sharing is told.
    """
    names = {id(wanted[key]): key for key in wanted if key in state}
    return {
        key: names[id(tensor)]
        for key, tensor in wanted.items()
        if key not in state and id(tensor) in names
    }


def _check(state: State, wanted: Mapping[str, torch.Tensor], origin: str) -> None:
    missing = sorted(wanted.keys() - state.keys())
    unexpected = sorted(state.keys() - wanted.keys())
    if missing:
        raise SourceError(f"{origin} lacks {some(missing)}")
    if unexpected:
        raise SourceError(f"{origin} has {some(unexpected)} that its config has no place for")
    misshapen = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in sorted(wanted)
        if state[key].shape != wanted[key].shape
    ]
    if misshapen:
        raise SourceError(f"{origin} does not fit its config: {some(misshapen)}")


def some(names: list[str]) -> str:
    """Say how many weights, and name the first three."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)} weight{'s' * (len(names) > 1)}: " + ", ".join(names[:3]) + more


def _as_float32(state: State) -> State:
    converted = {}
    for key in list(state):
        value = state.pop(key)
        converted[key] = value.float() if value.is_floating_point() else value
    return converted


def round_to_half(module: torch.nn.Module, origin: str) -> bool:
    """Round, in place, what will be stored as float16; tell whether that changed anything.

    Raises `SourceError` for a weight beyond float16's range.
    """
    changed = False
    # Buffers too: a table of positions is a constant of the graph like any weight.
    for name, tensor in chain(module.named_parameters(), module.named_buffers()):
        if tensor.numel() < HALF_FROM or not tensor.is_floating_point():
            continue
        rounded = tensor.data.half().float()
        if not rounded.isfinite().all():
            raise SourceError(f"{origin}: {name} exceeds float16's range; use --precision fp32")
        changed = changed or not torch.equal(rounded, tensor.data)
        tensor.data = rounded
    return changed


def _fill_positions(module: torch.nn.Module) -> None:
    """Give modules built on the meta device the one buffer that no state dict holds."""
    for owner in module.modules():
        for name, buffer in owner.named_buffers(recurse=False):
            if buffer.is_meta:
                if name != "position_ids":
                    raise SourceError(f"cannot fill the buffer {name} of {type(owner).__name__}")
                positions = torch.arange(buffer.shape[-1]).expand(buffer.shape)
                owner.register_buffer(name, positions.clone(), persistent=False)
