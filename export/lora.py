"""LoRA files merged into a checkpoint before it is traced, by the runtime's own arithmetic."""

import logging
from collections.abc import Mapping, Sequence

import torch

from pleinair.runtime.adapters import fitting, lora
from pleinair.runtime.errors import shown
from pleinair.runtime.graphs.changes import Changes, Shapes

from .manifest import sha256
from .stored_weight import StoredWeight

log = logging.getLogger("pleinair.export")

# transformers before 5.6 keeps CLIP's layers one level down; files and graphs mean them without it.
_WRAPPER = "text_model."


def planned(
    files: Sequence[lora.Lora], modules: Mapping[str, torch.nn.Module]
) -> dict[str, Changes]:
    """Sub-model -> what the files add to its weights, added up.

    modules: every sub-model of the checkpoint; only shapes are read, so the meta device will do.
    Raises `AdapterError` where a file does not fit, before any weight is loaded.
    """
    shapes = {name: _shapes(module) for name, module in modules.items()}
    for file in files:
        if file.embeddings:
            words = ", ".join(shown(item.word) for item in file.embeddings)
            log.warning(
                "%s: its words are no weights and cannot be merged; prompts will not know %s",
                file.path,
                words,
            )
    changes: dict[str, Changes] = fitting.changes(files, shapes)
    return changes


def merge(module: torch.nn.Module, changes: Changes) -> None:
    """Put the changed weights into a loaded module, in place; what is stored, when it is read."""
    for name, layer in module.named_modules():
        for end in ("weight", "bias"):
            change = changes.get(f"{name}.{end}".removeprefix(_WRAPPER))
            if change is None:
                continue
            if getattr(layer, end) is None:  # a layer without a bias is given one
                zeros = torch.zeros(len(layer.weight), dtype=layer.weight.dtype)
                layer.bias = torch.nn.Parameter(zeros)
            parameter = getattr(layer, end)
            if isinstance(parameter, StoredWeight):
                parameter.change = change
                continue
            merged = change(parameter.data.float().numpy())
            parameter.data = torch.from_numpy(merged).to(parameter.dtype)


def record(files: Sequence[lora.Lora]) -> list[dict[str, object]]:
    """For the manifest: which files, how much of each."""
    return [
        {"name": file.path.name, "weight": file.weight, "sha256": sha256(file.path)}
        for file in files
    ]


def _shapes(module: torch.nn.Module) -> Shapes:
    return {
        name.removeprefix(_WRAPPER): tuple(parameter.shape)
        for name, parameter in module.named_parameters()
        if name.endswith(".weight")
    }
