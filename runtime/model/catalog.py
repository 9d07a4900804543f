"""The known models, and where on this machine their folders may stand."""

import os
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import BundleError
from .bundle import Bundle

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Entry:
    """A known model: where it comes from, under what terms, and what its authors recommend."""

    name: str
    source: str
    kind: str
    licence: str
    size: int
    steps: int
    guidance_scale: float
    scheduler: str
    about: str


# What Stable Diffusion's first version is run with, for models that nobody has described.
_UNKNOWN: dict[str, Any] = {"steps": 20, "guidance_scale": 7.5, "scheduler": None}
# And for latent consistency models, whose UNet is told the scale: diffusers' pipeline of them.
_CONSISTENCY: dict[str, Any] = {"steps": 4, "guidance_scale": 8.5, "scheduler": "lcm"}
# And for others with LCM's solver: an LCM-LoRA is merged into them, and guidance with it.
_MERGED: dict[str, Any] = {"steps": 4, "guidance_scale": 1.0, "scheduler": "lcm"}


@dataclass(frozen=True)
class Defaults:
    """What a model is painted with where the user says nothing; scheduler None is its own."""

    size: int
    steps: int
    guidance_scale: float
    scheduler: str | None


def entries() -> dict[str, Entry]:
    """The catalog, name -> entry, in its own order."""
    text = (_bundled_models() / "catalog.toml").read_text(encoding="utf-8")
    known = {field.name for field in fields(Entry)}
    return {
        name: Entry(name, **{key: value for key, value in facts.items() if key in known})
        for name, facts in tomllib.loads(text).items()
    }


def defaults(bundle: Bundle) -> Defaults:
    """What the catalog recommends for a folder, known by its source or by its name."""
    size = bundle.sample_size * bundle.vae_scale_factor
    source = bundle.manifest.get("source", {}).get("name")
    if bundle.scheduler.get("_class_name") == "LCMScheduler" and bundle.guidance_width is None:
        return Defaults(size, **_MERGED)  # whatever it was merged into
    for entry in entries().values():
        if source == entry.source or bundle.name == entry.name:
            return Defaults(entry.size, entry.steps, entry.guidance_scale, entry.scheduler)
    return Defaults(size, **(_UNKNOWN if bundle.guidance_width is None else _CONSISTENCY))


def folders() -> list[Path]:
    """Where model folders are looked for, in this order."""
    own = os.environ.get("PLEINAIR_MODELS")
    return [*([Path(own)] if own else []), Path("models"), _bundled_models()]


def find(name: str | Path) -> Path:
    """The folder that a path, a catalog name or a hub id stands for.

    Raises BundleError where there is none, with the way to get a known one.
    """
    if Path(name).is_dir():
        return Path(name)
    text = str(name)
    entry = known(text)
    short = entry.name if entry else text.rpartition("/")[2]
    for folder in folders():
        if short and (folder / short).is_dir():
            return folder / short
    if entry:
        raise BundleError(
            f"{entry.name}: not on this machine; get it with: {how_to_get(entry)} "
            f"(licence: {entry.licence})"
        )
    raise BundleError(
        f"{text}: no such model folder, and no known model of that name; "
        "see the known ones with: pleinair models"
    )


def known(name: str) -> Entry | None:
    """The known model of this name or hub id, None where there is none."""
    return entries().get(name) or next((e for e in entries().values() if e.source == name), None)


def how_to_get(entry: Entry) -> str:
    """The command that puts a known model into models/."""
    return f"pleinair pull {entry.name}"


def installed() -> list[Path]:
    """The folders on this machine that look like converted models, last converted first."""
    seen: dict[Path, Path] = {}
    for folder in folders():
        for index in sorted(folder.glob("*/model_index.json")):
            seen.setdefault(index.parent.resolve(), index.parent)
        for graph in sorted(folder.glob("*/unet.xml")):
            seen.setdefault(graph.parent.resolve(), graph.parent)
    return sorted(seen.values(), key=_age)


def preferred() -> Path:
    """The model last converted on this machine; the bundled one where there is none."""
    for folder in installed():
        if folder.resolve() != bundled().resolve():
            return folder
    return bundled()


def bundled() -> Path:
    """The model that comes with the program."""
    return _bundled_models() / "pocket"


def _bundled_models() -> Path:
    # Beside this package in a checkout (models/) and in a wheel (pleinair/models/) alike.
    return Path(__file__).resolve().parents[2] / "models"


def _age(folder: Path) -> float:
    return -max(file.stat().st_mtime for file in folder.iterdir())
