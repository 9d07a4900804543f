"""LoRA files: read, understood, and fitted to the weights of a model."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import AdapterError
from ..graphs.changes import Array, Changes, Shapes
from . import naming, safetensors
from .merging import Layer, complete

# What a UNet attends to, by the width of a token's embedding: it tells the model's kind.
_KINDS = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "Stable Diffusion XL"}
# Words in keys of files for networks that are no UNets.
_OTHERS = {
    "double_blocks": "FLUX",
    "single_transformer_blocks": "FLUX",
    "joint_blocks": "Stable Diffusion 3",
}
_SETTINGS = "lora_adapter_metadata"  # diffusers keeps PEFT's configuration in the file's metadata
_PEFT_CONFIG = "adapter_config.json"  # PEFT keeps it beside the file


@dataclass(frozen=True)
class Lora:
    """One file with the weight it is given.

    layers: part -> layer's name, as in `naming.Target` -> its factors.
    """

    path: Path
    weight: float
    layers: Mapping[str, Mapping[str, Layer]]


Named = str | Path | tuple[str | Path, float]
"""A file, a file with its weight, or both in one text: "FILE:0.8"."""


def opened(named: Named) -> Lora:
    """The file that a user names; errors as in `read`."""
    if isinstance(named, tuple):
        return read(*named)
    path, colon, weight = str(named).rpartition(":")
    # A colon may be the file's own, as after a drive's letter.
    if not colon or Path(named).is_file():
        return read(named)
    try:
        return read(path, float(weight))
    except ValueError:
        return read(named)


def read(path: str | Path, weight: float = 1.0) -> Lora:
    """Read a LoRA, LoHa or LoKr file; `weight` says how much of it is added, negative allowed.

    Raises AdapterError where the file is not readable, or holds a key that means nothing here.
    """
    path = Path(path)
    if not np.isfinite(weight):
        raise AdapterError(f"{path}: a weight of {weight} is no number; give one like 0.8")
    tensors, metadata = safetensors.read(path)
    settings = _Settings.read(path, metadata)
    layers: dict[str, dict[str, Layer]] = {}
    for (part, name), factors in _grouped(path, tensors).items():
        layers.setdefault(part, {})[name] = _layer(path, factors, settings.of(part, name))
    return Lora(path, float(weight), layers)


@dataclass
class _Factors:
    """A layer's tensors by their role, and the first one's key, for messages."""

    key: str
    tensors: dict[str, Any] = field(default_factory=dict)


def _grouped(path: Path, tensors: Mapping[str, Any]) -> dict[tuple[str, str], _Factors]:
    """(Part, layer) -> its factors."""
    targets = {key: naming.target(key) for key in tensors}
    _refuse(path, [key for key, target in targets.items() if target is None])
    groups: dict[tuple[str, str], _Factors] = {}
    for key, target in targets.items():
        assert target is not None  # refused above
        group = groups.setdefault((target.part, target.layer), _Factors(key))
        if target.role in group.tensors:
            raise AdapterError(f"{path}: holds the layer of {key} twice; get another file")
        group.tensors[target.role] = tensors[key]
    return groups


def _refuse(path: Path, unknown: Sequence[str]) -> None:
    if not unknown:
        return
    if any("dora_scale" in key or "lora_magnitude_vector" in key for key in unknown):
        raise AdapterError(f"{path}: a DoRA file ({unknown[0]}), which cannot be used yet")
    raise AdapterError(f"{path}: {_some(unknown)} of no known kind{_kind_of_keys(unknown)}")


def _layer(path: Path, factors: _Factors, settings: dict[str, Any]) -> Layer:
    key, tensors = factors.key, factors.tensors
    alpha = tensors.pop("alpha", None)
    if not complete(tensors):
        have = ", ".join(sorted(tensors)) or "alpha"
        raise AdapterError(f"{path}: the layer of {key} has {have} alone; get the whole file")
    if alpha is not None:
        if alpha.size != 1:
            raise AdapterError(f"{path}: the alpha of {key} is not one number; get another file")
        settings["alpha"] = float(alpha.reshape(()))
    return Layer(key, tensors, **settings)


@dataclass(frozen=True)
class _Settings:
    """PEFT's configuration of each part; under "" one that holds for all of a file."""

    parts: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, path: Path, metadata: Mapping[str, str]) -> "_Settings":
        beside = path.with_name(_PEFT_CONFIG)
        try:
            if _SETTINGS in metadata:
                return cls(_by_part(json.loads(metadata[_SETTINGS])))
            # The name is fixed: a stranger's file beside it must not set this file's scale.
            if path.stem == "adapter_model" and beside.is_file():
                return cls({"": dict(json.loads(beside.read_text(encoding="utf-8")))})
        except (ValueError, TypeError, AttributeError) as error:
            raise AdapterError(f"{path}: unreadable configuration of PEFT ({error})") from error
        return cls({})

    def of(self, part: str, layer: str) -> dict[str, Any]:
        """`Layer`'s arguments; those of a layer may differ from its part's."""
        config = self.parts.get(part, self.parts.get("", {}))
        alpha, rank = config.get("lora_alpha", config.get("alpha")), config.get("r")
        alpha = _of_layer(config.get("alpha_pattern"), layer, alpha)
        rank = _of_layer(config.get("rank_pattern"), layer, rank)
        return {
            "alpha": None if alpha is None else float(alpha),
            "rank": None if rank is None else int(rank),
            "rank_stabilised": bool(config.get("use_rslora", False)),
        }


def _by_part(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    parts: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        part, _, name = key.partition(".")
        parts.setdefault(part, {})[name] = value
    return parts


def _of_layer(patterns: Mapping[str, Any] | None, layer: str, otherwise: Any) -> Any:
    """PEFT matches the end of a layer's name; names are taken literally, not as expressions."""
    for pattern, value in (patterns or {}).items():
        end = pattern.replace(".", "_")
        if layer == end or layer.endswith(f"_{end}"):
            return value
    return otherwise


def changes(loras: Iterable[Lora], models: Mapping[str, Shapes]) -> dict[str, Changes]:
    """What the files add to each part of a model, added up where they meet.

    models: part -> the weights it has.
    Raises AdapterError where a layer of a file is not in the model, or is of another size.
    """
    meant = {part: naming.layers(part, shapes) for part, shapes in models.items()}
    added: dict[str, dict[str, list[tuple[float, Layer]]]] = {part: {} for part in models}
    for lora in loras:
        _require_places(lora, models, meant)
        for part, layers in lora.layers.items():
            taken = set()
            for name, layer in layers.items():
                parameter = meant[part][name]
                if parameter in taken:
                    raise AdapterError(f"{lora.path}: {layer.key} changes {parameter} again")
                taken.add(parameter)
                added[part].setdefault(parameter, []).append((lora.weight, layer))
    return {
        part: {parameter: partial(_merged, pairs) for parameter, pairs in layers_of.items()}
        for part, layers_of in added.items()
        if layers_of
    }


def _merged(pairs: Sequence[tuple[float, Layer]], weight: Array) -> Array:
    total = weight.astype(np.float32)  # a copy
    for share, layer in pairs:
        total += np.float32(share) * layer.delta(weight.shape)
    return total


def _require_places(
    lora: Lora, models: Mapping[str, Shapes], meant: Mapping[str, Mapping[str, str]]
) -> None:
    nameless = [part for part, shapes in models.items() if part in lora.layers and not shapes]
    if nameless:
        raise AdapterError(
            f"the graph of the {nameless[0]} does not name its weights, so {lora.path.name} cannot "
            "be applied; export the model anew, with pleinair-export"
        )
    everywhere = [
        (part, name, layer)
        for part, layers_of in lora.layers.items()
        for name, layer in layers_of.items()
    ]
    homeless = [layer.key for part, name, layer in everywhere if name not in meant.get(part, {})]
    mismatch = _mismatch(_kind_of_file(lora, models), _kind_of_model(models))
    if homeless:
        reason = f": {mismatch}" if mismatch else "; get another file"
        raise AdapterError(
            f"{lora.path}: {_some(homeless)} that the model has no place for{reason}"
        )
    if mismatch:
        raise AdapterError(f"{lora.path}: {mismatch}; choose another file")


def _mismatch(theirs: str, ours: str) -> str:
    if not theirs or theirs == ours:
        return ""
    return f"it is for {theirs}, the model is {ours}" if ours else f"it is for {theirs}"


def _kind_of_file(lora: Lora, models: Mapping[str, Shapes]) -> str:
    """The model that a file was trained on, as far as it tells more than that it fits."""
    if "text_encoder_2" in lora.layers.keys() - models.keys():
        return _KINDS[2048]
    keys = [layer.key for layers_of in lora.layers.values() for layer in layers_of.values()]
    for name, layer in lora.layers.get("unet", {}).items():
        if name.endswith("attn2_to_k") and layer.in_features is not None:
            return _kind(layer.in_features)
    return next((kind for word, kind in _OTHERS.items() if any(word in key for key in keys)), "")


def _kind_of_keys(keys: Iterable[str]) -> str:
    for word, kind in _OTHERS.items():
        if any(word in key for key in keys):
            return f"; it looks like a file for {kind}"
    return "; LoRA, LoHa and LoKr files can be used"


def _kind_of_model(models: Mapping[str, Shapes]) -> str:
    for name, shape in models.get("unet", {}).items():
        if name.endswith("attn2.to_k.weight"):
            return _kind(shape[1])
    return ""


def _kind(width: int) -> str:
    return _KINDS.get(width, f"a model whose prompts are {width} wide")


def _some(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return f"{len(keys)} key{'s' * (len(keys) > 1)}, {', '.join(keys[:3])}{more},"
