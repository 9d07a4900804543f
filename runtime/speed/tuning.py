"""What `pleinair tune` found on this machine, kept in the user's settings and followed after that.

A tuning holds for the machine, the engines' versions and the model that it was measured with. Where
one of them is another, as in a folder that was copied, it is left aside, and one line says so.
"""

import dataclasses
import functools
import json
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from ..engines import cores
from ..engines.choice import Setup
from ..errors import BundleError, SettingError
from ..files import conform, read_json, replacing, short_digest
from ..model.bundle import Bundle
from . import machine
from .profiles import AUTO, DEFAULT, Profile, usual

log = logging.getLogger("pleinair")

FILE = "tuning.json"
# Engine -> the distributions that it may be installed as.
_DISTRIBUTIONS = {
    "openvino": ("openvino",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"),
}


class _Setup(Struct):
    """Of a profile; what was measured stands beside it."""

    engine: Literal["openvino", "onnxruntime"]
    threads: Annotated[int, Meta(ge=1, le=4096)] | None


class _For(Struct):
    """What a tuning was made on."""

    machine: dict[str, str | int | None] | None
    engines: dict[str, str | None]
    model: str


class _Entry(Struct):
    """What one machine found."""

    made_for: _For = field(name="for")
    profile: str
    profiles: dict[str, _Setup]


class _File(Struct):
    """A file of tunings; each is read when it is its turn."""

    tunings: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Tuning:
    """What to open a model with where its user says nothing.

    profile: what the profile "auto" stands for.
    setups: profile -> what computes it fastest.
    figures: profile -> what was measured, for people to read.
    """

    profile: str = DEFAULT
    setups: Mapping[str, Setup] = dataclasses.field(default_factory=dict)
    figures: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, bundle: Bundle) -> "Tuning":
        """The one for this machine and model: the user's, or the folder's, where earlier versions
        put it; else none.
        """
        for file in (file_for(bundle), bundle.path / FILE):
            try:
                known = _tunings(file)
                found = [one for one in known if _is_for(bundle, one)]
                if found:
                    return cls._read(found[0])
            except (BundleError, SettingError) as error:
                _tell(f"{error}; it is not used")
                continue
            if known:
                _tell(
                    f"{file}: made on another machine, or for other versions of engine or model, "
                    f"and not used; make it anew: {command(bundle)}"
                )
        return cls()

    @classmethod
    def _read(cls, stated: Mapping[str, Any]) -> "Tuning":
        profiles = _entry(stated).profiles
        return cls(
            Profile.of(_entry(stated).profile).name,
            {name: Setup(each.engine, each.threads) for name, each in profiles.items()},
            stated["profiles"],
        )

    def named(self, profile: str) -> str:
        """The profile that a name stands for; SettingError for one that is not in the table."""
        return self.profile if profile == AUTO else Profile.of(profile).name

    def chosen(
        self, asked: str | None, bundle: Bundle, denoiser: str, recommended: str | None
    ) -> Profile:
        """The profile asked for, else what is usual for a model: see `profiles.usual`."""
        return Profile.of(self.named(asked or usual(bundle, denoiser, recommended)))

    def write(self, bundle: Bundle) -> Path:
        """Keep it in place of the one that this machine had; returns the file.

        Raises SettingError where it cannot be written; then everything is as it was.
        """
        versions = {engine: installed(engine) for engine in _DISTRIBUTIONS}
        entry = {
            "for": {"machine": _machine(), "engines": versions, "model": _model(bundle)},
            "profile": self.profile,
            "profiles": {
                name: {**asdict(setup), **self.figures.get(name, {})}
                for name, setup in self.setups.items()
            },
        }
        file = file_for(bundle)
        try:
            others = [one for one in _tunings(file) if not _same_machine(one)]
        except BundleError:
            others = []  # what cannot be read is replaced
        about = f"made by: {command(bundle)}; delete this file to do without"
        _replace(file, {"about": about, "tunings": [*others, entry]})
        return file


def command(bundle: Bundle) -> str:
    """The command that makes a tuning."""
    return f"pleinair tune {bundle.path}"


def installed(engine: str) -> str | None:
    """The version of an engine; None where it is not installed. Nothing is imported."""
    for name in _DISTRIBUTIONS.get(engine, ()):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def file_for(bundle: Bundle) -> Path:
    """The file that a tuning is written to: the user's own, one for a folder.

    The folder is left as it is: it may be shared, read-only, or a checkout that git watches.
    """
    path = bundle.path.resolve()
    return settings_folder() / "tuning" / f"{path.name}-{short_digest(str(path))}.json"


def settings_folder() -> Path:
    """Where programs keep a user's settings on this system."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "pleinair"


def _tunings(file: Path) -> list[dict[str, Any]]:
    """What a file holds, one entry a machine; nothing where it is not there.

    Raises BundleError where it is no such file.
    """
    content = read_json(file, optional=True)
    return conform(content, _File, file, "tune the model anew").tunings


def _entry(stated: Mapping[str, Any]) -> "_Entry":
    return conform(stated, _Entry, FILE, "tune the model anew")


def _is_for(bundle: Bundle, stated: Mapping[str, Any]) -> bool:
    """Whether a tuning was made here, with the engines that are installed, for this model."""
    made = _entry(stated).made_for
    versions = {engine: installed(engine) for engine in made.engines}
    here = _For(machine=_machine(), engines=versions, model=_model(bundle))
    return made == here


def _same_machine(stated: Mapping[str, Any]) -> bool:
    return _entry(stated).made_for.machine == _machine()


@functools.cache
def _machine() -> dict[str, Any]:
    threads = cores.hardware_threads()
    return {"cpu": machine.cpu_name(), "cores": cores.physical_cores(), "threads": threads}


def _model(bundle: Bundle) -> str:
    """A few digits that are the same for the same graphs."""
    sizes = {
        f"{format}/{part}": [file.stat().st_size, _size(file.with_suffix(".bin"))]
        for format, parts in bundle.graphs.items()
        for part, file in parts.items()
    }
    facts = [sizes, bundle.manifest.get("files", {})]
    return short_digest(facts)


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _replace(file: Path, content: Mapping[str, Any]) -> None:
    """Write JSON whole or not at all."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as part:
            part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise SettingError(f"{file}: cannot be written: {error.strerror or error}") from error


@functools.cache
def _tell(line: str) -> None:
    """Log a line, once a process."""
    log.info(line)
