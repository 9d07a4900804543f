"""`--params-from FILE`: the options that a picture's file stands for."""

import argparse
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import SettingError
from ..exits import tell
from ..families.family import Family
from ..model import catalog
from ..model.bundle import Bundle
from ..options.groups import Reuse
from ..options.option import declared
from ..record import metadata
from ..record.fitting import fitted
from ..record.metadata import shown
from . import adapters
from .arguments import BETAS, CALL

# What is taken over besides the settings proper; the model is looked for by its name alone.
_AROUND = ("watermark",)
# Settings of a picture that was given, and of its mask, and the options that give those.
_PICTURED = {"strength": "image", "resize": "image", "mask_blur": "mask_image"}
# Fields of one extension that are told as one, and names in a line, behind which they are counted.
_MOST_ALIKE, _MOST_NAMED = 3, 50
# What says how many of the text encoder's layers are left out, and whose counting that is.
_LAYERS = ("clip_layer", "version")


@dataclass(frozen=True)
class Restored:
    """What a file says in which program's words, and the options that were filled in from it."""

    path: Path
    settings: Mapping[str, Any]
    program: str
    names: Collection[str]

    def fit(self, options: argparse.Namespace, family: Family) -> None:
        """Let go of what the model at hand does not have; one line says which."""
        filled = {name: getattr(options, name) for name in self.names}
        if options.clip_skip is None:
            filled |= {name: self.settings[name] for name in _LAYERS if name in self.settings}
        settings, gone = fitted(filled, self.program, family)
        for name in {*self.names, *settings.keys() & {"clip_skip"}}:
            setattr(options, name, settings.get(name))
        _tell_of_another_model(self.settings, family.bundle)
        if gone:
            _tell(self.path, [f"{', '.join(gone)} (not of {family.name})"])


def restore(options: argparse.Namespace) -> Restored:
    """Fill in the options that were not given, and return what the file says.

    One line says what of it is not taken over. Raises SettingError for a file that says nothing,
    or names LoRA files that are not here.
    """
    path: Path = options.params_from
    found = metadata.read(path)
    stated, ignored = dict(found.settings), list(found.ignored)
    asked = options.prompt is not None or options.from_file or options.compare
    if "prompt" not in stated and not asked:
        raise SettingError(f"{path}: no prompt can be found in it; give --prompt")
    if options.from_file:
        stated.pop("prompt", None)
    if options.seed is not None:
        stated.pop("noise_seed", None)  # belongs to the picture's own seed
    if found.program == "Pleinair":
        stated.setdefault("precision", "f32")  # what all computed in that said nothing of it
    if options.profile is not None:
        of_profile = {*declared(Reuse), "precision"}
        stated = {name: value for name, value in stated.items() if name not in of_profile}
    for name, giver in _PICTURED.items():
        if not getattr(options, giver) and (value := stated.pop(name, None)) not in (None, 1):
            ignored.append(f"{name} {value} (of a picture; give that, too)")
    names = [
        name
        for name in (*CALL, *BETAS, *_AROUND, "noise_seed")
        if name in stated and getattr(options, name) is None
    ]
    for name in names:
        setattr(options, name, stated[name])
    adapters.restore(stated, options)
    if options.engine is None and options.device is None:
        options.engine, options.device = stated.get("engine"), _device(stated)
        options.machine_restored = True  # which this machine need not have
    if options.model is None and "model" in stated:
        options.model = _folder(stated["model"])
    if ignored:
        _tell(path, _together(ignored))
    return Restored(path, stated, found.program, names)


def _tell(path: Path, ignored: Collection[str]) -> None:
    tell(f"{path}: not used: {', '.join(ignored)}")


def _together(names: Collection[str]) -> list[str]:
    """Names of fields, those of one extension counted: "ADetailer … (12)"."""
    firsts = [name.partition(" ")[0] for name in names]
    counts = Counter(firsts)
    told = [
        f"{first} … ({counts[first]})" if counts[first] > _MOST_ALIKE else name
        for name, first in zip(names, firsts, strict=True)
    ]
    told = list(dict.fromkeys(told))
    more = len(told) - _MOST_NAMED
    return [*told[:_MOST_NAMED], *([f"and {more} more"] if more > 0 else [])]


def _tell_of_another_model(stated: Mapping[str, Any], bundle: Bundle) -> None:
    """One line where the picture was painted with another model than the one at hand."""
    name, digest = stated.get("model", bundle.name), stated.get("model_digest", bundle.digest)
    if name != bundle.name:
        tell(f"painted with {shown(name)}; now painting with {bundle.name}")
    elif digest != bundle.digest:
        tell(f"painted with another export of {bundle.name} than this one")


def _device(stated: Mapping[str, Any]) -> str | None:
    """A device by its plain name, CPU or GPU.1; engines take whole programs of words there."""
    device = stated.get("device", "")
    return device if re.fullmatch(r"[A-Za-z]+([.:]\d)?", device) else None


def _folder(name: str) -> str | None:
    """An installed model of that name. A path from a stranger's file is never followed."""
    return next((str(folder) for folder in catalog.installed() if folder.name == name), None)
