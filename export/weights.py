"""State dicts loaded into modules strictly.

`from_pretrained` fills a missing weight with random numbers and only warns; here a missing, an
unexpected or a misshapen weight is an error that names it.
"""

import re
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

import torch

from pleinair.runtime.errors import SourceError
from pleinair.runtime.hub.selection import choose

from .pages import MappedFiles
from .reading import State, read_checkpoint
from .stored_weight import StoredWeight, can_stay, read_when_called

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


def require_finite(key: str, value: torch.Tensor, origin: str) -> None:
    """Raise `SourceError`, which names the weight, where it holds NaN or infinity."""
    if value.is_floating_point() and not torch.isfinite(value.float()).all():
        raise SourceError(
            f"{origin}: the weight {key} holds values that are no numbers (NaN or infinite); the "
            "file is damaged or its training diverged: get it anew"
        )


def load(module: torch.nn.Module, state: State, origin: str) -> None:
    """Put `state` into `module`, which may still be on the meta device, as float32.

    Large weights stay where they are: see `stored_weight`. `origin` names the source in errors.
    Raises `SourceError` when a key is missing, unexpected or has another shape. `state` is emptied
    on the way, so that weights are held once.
    """
    wanted = dict(module.state_dict(keep_vars=True))
    _respell(state, wanted)
    shared = _shared(state, wanted)
    _check(state, {key: value for key, value in wanted.items() if key not in shared}, origin)
    converted = _as_float32(state, _can_stay(module), origin)
    converted |= {key: converted[held] for key, held in shared.items()}
    module.load_state_dict(converted, strict=True, assign=True)
    for key, held in shared.items():  # assigned as parameters of one storage: one again
        layer, _, name = key.rpartition(".")
        setattr(module.get_submodule(layer), name, module.get_parameter(held))
    _fill_positions(module)
    module.requires_grad_(False).eval()
    read_when_called(module)


def _can_stay(module: torch.nn.Module) -> set[str]:
    """Names of the weights that need not be in memory while nothing is computed with them."""
    return {
        f"{path}.{name}" if path else name
        for path, layer in module.named_modules()
        for name, parameter in layer.named_parameters(recurse=False)
        if can_stay(layer, name) and parameter.numel() >= HALF_FROM
    }


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
    integers = [
        f"{key} of {str(state[key].dtype).removeprefix('torch.')}"
        for key in sorted(wanted)
        if wanted[key].is_floating_point() and not state[key].is_floating_point()
    ]
    if integers:
        raise SourceError(f"{origin} is not stored as fractions: {some(integers)}")
    if misshapen:
        raise SourceError(f"{origin} does not fit its config: {some(misshapen)}")


def some(names: list[str]) -> str:
    """Say how many weights, and name the first three."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)} weight{'s' * (len(names) > 1)}: " + ", ".join(names[:3]) + more


def _as_float32(state: State, staying: set[str], origin: str) -> State:
    """The values; of weights in `staying`, where they are."""
    files = MappedFiles()
    converted: State = {}
    for key in list(state):
        value = state.pop(key)
        if key in staying:
            converted[key] = weight = StoredWeight(value, files)
            require_finite(key, weight.read(), origin)
        else:
            require_finite(key, value, origin)
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
        values = tensor.read() if isinstance(tensor, StoredWeight) else tensor.data
        rounded = values.half().float()
        if not rounded.isfinite().all():
            raise SourceError(f"{origin}: {name} exceeds float16's range; use --precision fp32")
        changed = changed or not torch.equal(rounded, values)
        if isinstance(tensor, StoredWeight):
            tensor.rounded = True
        else:
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
