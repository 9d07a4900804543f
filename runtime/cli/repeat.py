"""`--params-from IMAGE`: the options that a picture's file stands for."""

import argparse
import re
from pathlib import Path
from typing import Any

from ..exits import tell
from ..model import catalog
from ..model.bundle import Bundle
from ..options.groups import Reuse
from ..options.option import declared
from ..record import metadata
from ..record.metadata import shown
from . import adapters
from .arguments import BETAS, CALL

# What is taken over besides the settings proper; the model is looked for by its name alone.
_AROUND = ("watermark", "precision")
_MOST_SHOWN = 8


def restore(options: argparse.Namespace) -> dict[str, Any]:
    """Fill in the options that were not given, and return all that the file says.

    One line says what of it means nothing here. Raises SettingError for a file that says nothing.
    """
    path: Path = options.params_from
    found = metadata.read(path)
    stated = dict(found.settings)
    if options.from_file:
        stated.pop("prompt", None)
    if options.seed is not None:
        stated.pop("noise_seed", None)  # belongs to the picture's own seed
    if options.profile is not None:
        stated = {name: value for name, value in stated.items() if name not in declared(Reuse)}
    for name in (*CALL, *BETAS, *_AROUND, "noise_seed"):
        if name in stated and getattr(options, name) is None:
            setattr(options, name, stated[name])
    adapters.restore(stated, options)
    if options.engine is None and options.device is None:
        options.engine, options.device = stated.get("engine"), _device(stated)
        options.machine_restored = True  # which this machine need not have
    if options.model is None and "model" in stated:
        options.model = _folder(stated["model"])
    if found.ignored:
        some = ", ".join(found.ignored[:_MOST_SHOWN])
        more = len(found.ignored) - _MOST_SHOWN
        tell(f"{path}: not used: {some}{f' and {more} more' if more > 0 else ''}")
    return stated


def tell_of_another_model(stated: dict[str, Any], bundle: Bundle) -> None:
    """One line where the picture was painted with another model than the one at hand."""
    name, digest = stated.get("model", bundle.name), stated.get("model_digest", bundle.digest)
    if name != bundle.name:
        tell(f"painted with {shown(name)}; now painting with {bundle.name}")
    elif digest != bundle.digest:
        tell(f"painted with another export of {bundle.name} than this one")


def _device(stated: dict[str, Any]) -> str | None:
    """A device by its plain name, CPU or GPU.1; engines take whole programs of words there."""
    device = stated.get("device", "")
    return device if re.fullmatch(r"[A-Za-z]+([.:]\d)?", device) else None


def _folder(name: str) -> str | None:
    """An installed model of that name. A path from a stranger's file is never followed."""
    return next((str(folder) for folder in catalog.installed() if folder.name == name), None)
