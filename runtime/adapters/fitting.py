"""LoRA files put on a model: which weight each of their layers changes, and what is left over."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import AdapterError, shown
from ..graphs.changes import BIAS, WEIGHT, Array, Changes, Shapes
from . import naming
from .inversion import Embedding
from .lora import Lora, Unused, listed
from .merging import Bias, Layer
from .recognition import recognized

log = logging.getLogger("pleinair")

# What a UNet attends to, by the width of a token's embedding: it tells the model's kind.
_KINDS = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "Stable Diffusion XL"}

_NO_PLACE = "the model has no place for it"

Step = tuple[Path, float, Layer | Bias]
"""A file's path and weight, and what it does to one parameter."""


def changes(loras: Iterable[Lora], models: Mapping[str, Shapes]) -> dict[str, Changes]:
    """What the files make of each part of a model, one after the other where they meet.

    models: part -> the weights it has. Layers that the model has no place for, or in another size,
    are left out, and named in one warning for each file.
    Raises AdapterError where a file is for another kind of model, or nothing of it fits.
    """
    meant = {part: naming.layers(part, shapes) for part, shapes in models.items()}
    steps: dict[str, dict[str, list[Step]]] = {}
    for lora in loras:
        _require_names(lora, models)
        _require_kind(lora, models)
        fitted = _Fitted()
        for part, name, one in _all(lora):
            fitted.put(part, meant.get(part, {}).get(name), one, models.get(part, {}))
        _tell(lora, fitted)
        for (part, parameter), one in fitted.placed.items():
            found = steps.setdefault(part, {}).setdefault(parameter, [])
            found.append((lora.path, lora.weight, one))
    return {
        part: {parameter: partial(_merged, parameter, found) for parameter, found in of.items()}
        for part, of in steps.items()
    }


def words(loras: Iterable[Lora], embeddings: Iterable[Embedding]) -> list[Embedding]:
    """The embeddings, and those that come with the files, but for words that are given already."""
    found = list(embeddings)
    known = {item.word for item in found}
    for lora in loras:
        for item in lora.embeddings:
            if item.word in known:
                log.warning(
                    "%s: its word %s is not applied: another file has it",
                    lora.path,
                    shown(item.word),
                )
            else:
                found.append(item)
                known.add(item.word)
    return found


def _merged(parameter: str, steps: Sequence[Step], weight: Array) -> Array:
    """In the order in which the files are given: some kinds depend on what is there before."""
    total = weight.astype(np.float32)  # a copy
    with np.errstate(all="ignore"):  # said below, in words
        for _, share, one in steps:
            total += np.float32(share) * one.difference(total)
    if not np.isfinite(total).all() and np.isfinite(weight).all():
        names = ", ".join(str(path) for path, _, _ in steps)
        raise AdapterError(
            f"{names}: makes values of {parameter} that are no numbers; use a smaller weight, "
            "or another file"
        )
    return total


@dataclass
class _Fitted:
    """What of one file has a place in a model, and what has none."""

    placed: dict[tuple[str, str], Layer | Bias] = field(default_factory=dict)
    unused: list[Unused] = field(default_factory=list)

    def put(self, part: str, weight: str | None, one: Layer | Bias, shapes: Shapes) -> None:
        """weight: the parameter that the layer's name means; None where there is none."""
        if weight is None:
            self.unused.append(Unused(one.keys, _NO_PLACE))
            return
        bias = isinstance(one, Bias)
        parameter = weight.removesuffix(WEIGHT) + BIAS if bias else weight
        reason = one.mismatch(shapes[weight])
        if not reason and (part, parameter) in self.placed:
            reason = "there under another name, too"
        if reason:
            self.unused.append(Unused(one.keys, reason))
        else:
            self.placed[part, parameter] = one


def _all(lora: Lora) -> Iterator[tuple[str, str, Layer | Bias]]:
    for parts in (lora.layers, lora.biases):
        for part, of in parts.items():
            for name, one in of.items():
                yield part, name, one


def _tell(lora: Lora, fitted: _Fitted) -> None:
    """One line on what is left out; AdapterError where that is all."""
    unused = [*lora.unused, *fitted.unused]
    if not fitted.placed and not lora.embeddings:
        strange = all(one.reason == _NO_PLACE for one in fitted.unused)
        what = recognized(key for one in unused for key in one.keys) if strange else ""
        reason = f"it is {what}" if what else listed(unused)
        raise AdapterError(f"{lora.path}: nothing of it fits the model: {reason}")
    if unused:
        count = sum(len(one.keys) for one in unused)
        keys = "key is" if count == 1 else "keys are"
        log.warning("%s: %d %s not applied: %s", lora.path, count, keys, listed(unused))


def _require_names(lora: Lora, models: Mapping[str, Shapes]) -> None:
    for part in {*lora.layers, *lora.biases} & models.keys():
        if not models[part]:
            raise AdapterError(
                f"the graph of the {part} does not name its weights, so {lora.path.name} cannot "
                "be applied; export the model anew, with pleinair-export"
            )


def _require_kind(lora: Lora, models: Mapping[str, Shapes]) -> None:
    theirs, ours = _kind_of_file(lora, models), _kind_of_model(models)
    if theirs and theirs != ours:
        model = f", the model is {ours}" if ours else ""
        raise AdapterError(f"{lora.path}: it is for {theirs}{model}; choose another file")


def _kind_of_file(lora: Lora, models: Mapping[str, Shapes]) -> str:
    """The model that a file was trained on, as far as it tells more than that it fits."""
    if "text_encoder_2" in lora.layers.keys() - models.keys():
        return _KINDS[2048]
    for name, layer in lora.layers.get("unet", {}).items():
        if name.endswith("attn2_to_k") and layer.in_features is not None:
            return _kind(layer.in_features)
    return ""


def _kind_of_model(models: Mapping[str, Shapes]) -> str:
    for name, shape in models.get("unet", {}).items():
        if name.endswith("attn2.to_k.weight"):
            return _kind(shape[1])
    return ""


def _kind(width: int) -> str:
    return _KINDS.get(width, f"a model whose prompts are {width} wide")
