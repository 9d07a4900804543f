"""LoRA files: read and understood. `fitting.py` puts them on a model."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import AdapterError, shown
from ..graphs.scales import MOST, fits
from . import content, inversion, naming
from .inversion import Embedding
from .kinds import kind_of
from .merging import Bias, Layer
from .peft import Scaling, Settings
from .recognition import recognized

_BUNDLED = "bundle_emb."
_LONGEST_TITLE = 300
_MOST_SHOWN = 3  # keys in a message, of so many reasons


@dataclass(frozen=True)
class Unused:
    """Keys of a file that nothing is done with, and why."""

    keys: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Lora:
    """One file with the weight it is given.

    layers: part -> layer's name, as in `naming.Target` -> what it does to the weight.
    biases: the same for biases.
    embeddings: words that come with it.
    unused: what of it is of no known kind.
    titles: what its metadata call it.
    """

    path: Path
    weight: float
    layers: Mapping[str, Mapping[str, Layer]]
    biases: Mapping[str, Mapping[str, Bias]] = field(default_factory=dict)
    embeddings: tuple[Embedding, ...] = ()
    unused: tuple[Unused, ...] = ()
    titles: tuple[str, ...] = ()


Named = str | Path | tuple[str | Path, float]
"""A file, a file with its weight, or both in one text: "FILE:0.8"."""


def opened(named: Named) -> Lora:
    """The file that a user names; errors as in `read`."""
    if isinstance(named, tuple):
        return read(*named)
    path, colon, weight = str(named).rpartition(":")
    # A colon may be the file's own, as after a drive's letter.
    if not colon or content.is_file(named):
        return read(named)
    try:
        return read(path, float(weight))
    except ValueError:
        return read(named)


def read(path: str | Path, weight: float = 1.0) -> Lora:
    """Read a LoRA file of any kind; `weight` says how much of it is added, negative allowed.

    Raises AdapterError where the file is not readable, holds values that are no numbers, or no
    layer of a known kind.
    """
    path = Path(path)
    try:
        weight = float(weight)
    except (TypeError, ValueError, OverflowError):
        weight = math.nan
    if not fits(weight):
        raise AdapterError(f"{path}: its weight is no number up to {MOST:g}; give one like 0.8")
    found, metadata = content.read(path)
    tensors = _tensors(path, found)
    settings = Settings.read(path, metadata)
    bundled = {key: value for key, value in tensors.items() if key.startswith(_BUNDLED)}
    groups, unused = _grouped({key: tensors[key] for key in tensors if key not in bundled})
    layers: dict[str, dict[str, Layer]] = {}
    biases: dict[str, dict[str, Bias]] = {}
    for (part, name), group in groups.items():
        _require_numbers(path, group)
        layer, bias, left = _understood(group, settings.of_layer(part, name))
        unused += left
        if layer is not None:
            layers.setdefault(part, {})[name] = layer
        if bias is not None:
            biases.setdefault(part, {})[name] = bias
    embeddings = tuple(_embeddings(path, bundled))
    if not (layers or biases or embeddings):
        raise _refused(path, tensors, unused)
    return Lora(path, weight, layers, biases, embeddings, tuple(unused), _titles(metadata))


def _titles(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """ModelSpec's title, and the name that kohya's scripts gave the file."""
    found = (metadata.get(key) for key in ("modelspec.title", "ss_output_name"))
    return tuple(title[:_LONGEST_TITLE] for title in found if isinstance(title, str))


def _tensors(path: Path, found: Any) -> dict[str, NDArray[Any]]:
    """Those of a state dict, which trainers may nest in another dictionary."""
    while isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping):
        raise AdapterError(
            f"{path}: holds no tensors by name, so it does not say whose layers they are; "
            "get it as .safetensors"
        )
    numbers = {
        str(key): np.asarray(value)
        for key, value in found.items()
        if isinstance(value, np.ndarray | int | float)
    }
    if not numbers:
        raise AdapterError(f"{path}: holds no tensors; get another file")
    return numbers


@dataclass
class _Group:
    """A layer's tensors by their role, and their keys."""

    tensors: dict[str, NDArray[Any]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)

    def take(self, *roles: str) -> tuple[str, ...]:
        """Take these away; their keys."""
        for role in roles:
            self.tensors.pop(role, None)
        return tuple(self.keys.pop(role) for role in roles if role in self.keys)


def _grouped(
    tensors: Mapping[str, NDArray[Any]],
) -> tuple[dict[tuple[str, str], _Group], list[Unused]]:
    """(Part, layer) -> its tensors; and what is of no known kind."""
    groups: dict[tuple[str, str], _Group] = {}
    unknown, again = [], []
    for key, value in tensors.items():
        target = naming.target(key)
        if target is None:
            unknown.append(key)
            continue
        group = groups.setdefault((target.part, target.layer), _Group())
        if target.role in group.tensors:
            again.append(key)
            continue
        group.tensors[target.role] = value
        group.keys[target.role] = key
    found = {"of no known kind": unknown, "there under another name, too": again}
    return groups, [Unused(tuple(keys), reason) for reason, keys in found.items() if keys]


def _understood(group: _Group, scaling: Scaling) -> tuple[Layer | None, Bias | None, list[Unused]]:
    """What a group does to its layer's weight and bias, and what is left of it."""
    single = {role: group.tensors.get(role) for role in ("alpha", "scale")}
    for role, value in single.items():
        if value is not None and (value.size != 1 or not math.isfinite(float(value.reshape(())))):
            keys = group.take(*group.tensors)
            return None, None, [Unused(keys, f"with {role} that is not one number")]
    layer = _layer(group, scaling)
    bias = _bias(group, 1.0 if layer is None else layer.scale, layer is not None)
    group.take("alpha", "scale")
    left = tuple(group.keys.values())
    if not left:
        return layer, bias, []
    alone = f"{', '.join(sorted(group.tensors))} alone, which makes no layer"
    return layer, bias, [Unused(left, alone)]


def _layer(group: _Group, scaling: Scaling) -> Layer | None:
    """The layer that a group's factors make; they are taken from it."""
    made = kind_of(frozenset(group.tensors))
    if made is None:
        return None
    kind, roles = made
    alpha, fixed = group.tensors.get("alpha"), group.tensors.get("scale")
    if alpha is not None and "alpha" not in roles:
        scaling = Scaling(float(alpha.reshape(())), scaling.rank, scaling.stabilised)
    factors = {role: group.tensors[role] for role in roles}
    scale = scaling.scale(kind.rank(factors)) if "alpha" not in roles else 1.0
    magnitudes = [role for role in ("magnitude", "dora_scale") if role in group.tensors]
    magnitude = group.tensors[magnitudes[0]] if magnitudes else None
    keys = group.take(*roles, *magnitudes[:1])
    return Layer(
        kind,
        factors,
        scale=scale if fixed is None else float(fixed.reshape(())),
        magnitude=magnitude,
        by_rows=magnitudes[:1] == ["magnitude"],
        keys=keys,
    )


def _bias(group: _Group, scale: float, scaled: bool) -> Bias | None:
    """The bias of a group, which is taken from it; PEFT's is scaled as the layer's product is."""
    for role in ("diff_b", "b_norm", "up_bias"):
        if role in group.tensors and (role != "up_bias" or scaled):
            vector = group.tensors[role]
            (key,) = group.take(role)
            return Bias(key, vector, scale if role == "up_bias" else 1.0)
    return None


def _require_numbers(path: Path, group: _Group) -> None:
    for role, value in group.tensors.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise AdapterError(
                f"{path}: {shown(group.keys[role])} holds values that are no numbers, as of a "
                "training that has diverged; get another file"
            )


def _embeddings(path: Path, tensors: Mapping[str, NDArray[Any]]) -> Iterator[Embedding]:
    """webui's bundles: "bundle_emb.WORD.string_to_param.*", or WORD.clip_l and WORD.clip_g."""
    words: dict[str, dict[str, NDArray[Any]]] = {}
    for key, value in tensors.items():
        word, _, rest = key.removeprefix(_BUNDLED).partition(".")
        words.setdefault(word, {})[rest] = value
    for word, found in words.items():
        yield inversion.of(path, found, word)


def _refused(path: Path, tensors: Mapping[str, NDArray[Any]], unused: list[Unused]) -> AdapterError:
    what = recognized(tensors)
    if what:
        return AdapterError(f"{path}: no LoRA, but {what}")
    return AdapterError(f"{path}: no LoRA file that is understood: {listed(unused)}")


def listed(unused: list[Unused]) -> str:
    """ "a, b and 4 more, of no known kind; c, of another size"."""
    reasons: dict[str, list[str]] = {}
    for one in unused:
        reasons.setdefault(one.reason, []).extend(one.keys)
    named = [f"{_some(keys)} ({reason})" for reason, keys in reasons.items()]
    more = [f"and more, for {len(named) - _MOST_SHOWN} other reasons"]
    return "; ".join(named[:_MOST_SHOWN] + (more if len(named) > _MOST_SHOWN else []))


def _some(keys: list[str]) -> str:
    named = ", ".join(shown(key, 120) for key in keys[:_MOST_SHOWN])
    return f"{named} and {len(keys) - _MOST_SHOWN} more" if len(keys) > _MOST_SHOWN else named
