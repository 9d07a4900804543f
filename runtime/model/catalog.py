"""The known models, and where on this machine their folders may stand."""

import contextlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from msgspec.structs import asdict

from ..errors import BundleError, did_you_mean, shown
from ..files import read_json
from .bundle import Bundle

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


FEW_STEPS = ("pcm", "lcm", "tcd", "hyper", "lightning", "dmd2", "flash", "turbo")
"""How a LoRA may be distilled: see families.distillation."""


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


@dataclass(frozen=True)
class Recommended:
    """What a model is painted with where the user says nothing.

    size: of a picture's sides, in pixels. scheduler: None is the folder's.
    eta, timesteps: of that scheduler, where they are other than its usual.
    vae, profile: the decoder, and what is given up for speed; None is "full" and "native".
    """

    size: int
    steps: int
    guidance_scale: float
    scheduler: str | None
    eta: float | None = None
    timesteps: tuple[int, ...] | None = None
    vae: str | None = None
    profile: str | None = None

    def over(self, stated: Mapping[str, Any]) -> "Recommended":
        """The same with what is stated instead; None is nothing."""
        names = (field.name for field in fields(self))
        known = {name: stated[name] for name in names if stated.get(name) is not None}
        return replace(self, **known)


def entries() -> dict[str, Entry]:
    """The catalog, name -> entry, in its own order."""
    text = (_bundled_models() / "catalog.toml").read_text(encoding="utf-8")
    known = {field.name for field in fields(Entry)}
    return {
        name: Entry(name, **{key: value for key, value in facts.items() if key in known})
        for name, facts in tomllib.loads(text).items()
    }


def recommended(bundle: Bundle, usual: Recommended) -> Recommended:
    """What a folder recommends for itself, else what the catalog does, else what is usual."""
    if (stated := bundle.stated.recommended) is not None:
        return usual.over(asdict(stated))
    entry = entry_of(bundle)
    return usual if entry is None else usual.over(recommendation(entry))


def recommendation(entry: Entry) -> dict[str, Any]:
    """What the authors of a known model recommend, as a folder's pleinair.json says it."""
    names = {field.name for field in fields(Recommended)} & vars(entry).keys()
    return {name: getattr(entry, name) for name in sorted(names)}


def entry_of(bundle: Bundle) -> Entry | None:
    """The known model that a folder is of: by its source; by its name where it states nothing and
    lies among the models. A name alone may stand for anything.
    """
    source = bundle.stated.source
    if source is None and not bundle.manifest and _among_models(bundle.path):
        entry = entries().get(bundle.name)
    else:
        named = source.name if source else None
        entry = next((each for each in entries().values() if each.source == named), None)
    return entry if entry and is_still(entry, bundle.scheduler) else None


def is_still(entry: Entry, scheduler: Mapping[str, Any]) -> bool:
    """Whether what came from a known model, and has this scheduler_config.json, still is that one.

    One that an LCM-LoRA is merged into, whose solver says so, is another model than its source.
    """
    return scheduler.get("_class_name") != "LCMScheduler" or entry.scheduler == "lcm"


def folders() -> list[Path]:
    """Where model folders are looked for, in this order."""
    return [user_folder(), Path("models"), _bundled_models()]


def user_folder() -> Path:
    """The user's model folder, to which models are fetched and converted.

    The environment's PLEINAIR_MODELS is another; `models` of the current folder for one without
    a home.
    """
    if named := os.environ.get("PLEINAIR_MODELS"):
        return Path(named)
    folder = _data_folder()
    return folder / "models" if folder else Path("models")


def data_folder() -> Path:
    """Where the program keeps what it makes for its user; `pleinair` of the current folder for one
    without a home.
    """
    return _data_folder() or Path("pleinair")


def _data_folder() -> Path | None:
    system, usual = {
        "win32": ("LOCALAPPDATA", "AppData/Local"),
        "darwin": ("", "Library/Application Support"),
    }.get(sys.platform, ("XDG_DATA_HOME", ".local/share"))
    if given := os.environ.get(system):
        return Path(given) / "pleinair"
    with contextlib.suppress(RuntimeError):
        return Path.home() / usual / "pleinair"
    return None


def find(name: str | Path) -> Path:
    """The folder that a path, a catalog name or a hub id stands for.

    Raises BundleError where there is none, with the way to get a known one.
    """
    if os.path.isdir(name):  # unlike Path.is_dir, of names of any length
        return Path(name)
    text = str(name)
    entry = known(text)
    short = entry.name if entry else text.rpartition("/")[2]
    for folder in folders():
        if short and os.path.isdir(folder / short):
            return folder / short
    if entry:
        raise BundleError(
            f"{entry.name}: not on this machine; get it with: {how_to_get(entry)} "
            f"(licence: {entry.licence})"
        )
    here = [folder.name for folder in installed()]
    near = did_you_mean(short, [*entries(), *here])
    raise BundleError(
        f"{shown(text, 300)}: no such model folder, and no known model of that name; "
        f"see the known ones with: pleinair models{near}"
    )


def known(name: str) -> Entry | None:
    """The known model of this name or hub id, None where there is none."""
    return entries().get(name) or next((e for e in entries().values() if e.source == name), None)


def _among_models(folder: Path) -> bool:
    return folder.resolve().parent in {each.resolve() for each in folders()}


def how_to_get(entry: Entry) -> str:
    """The command that puts a known model into models/."""
    return f"pleinair pull {entry.name}"


def installed() -> list[Path]:
    """The folders on this machine that look like converted models, last converted first."""
    seen: dict[str, Path] = {}
    for models in folders():
        for name in _listed(models):
            folder = models / name
            if any(os.path.lexists(folder / file) for file in ("model_index.json", "unet.xml")):
                # Not Path.resolve, which raises for links in a circle.
                seen.setdefault(os.path.realpath(folder), folder)
    return sorted(seen.values(), key=_age)


def _listed(folder: Path) -> list[str]:
    """The names in a folder but for hidden ones; none where it cannot be read."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError:
        return []


def bundled() -> Path:
    """The model that comes with the program: what paints where nobody names another."""
    return _bundled_models() / "pocket"


def is_bundled(folder: Path) -> bool:
    """Whether a folder is the model that comes with the program, or a copy of it, as of a checkout.

    Raises BundleError where its pleinair.json is none.
    """
    if folder.resolve() == bundled().resolve():
        return True
    files, ours = (
        read_json(one / "pleinair.json", optional=True).get("files") for one in (folder, bundled())
    )
    return files is not None and files == ours


def _bundled_models() -> Path:
    # Beside this package in a checkout (models/) and in a wheel (pleinair/models/) alike.
    return Path(__file__).resolve().parents[2] / "models"


def _age(folder: Path) -> float:
    return -max((os.lstat(folder / name).st_mtime for name in _listed(folder)), default=0.0)
