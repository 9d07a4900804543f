"""What `pleinair tune` found on this machine, kept beside the model and followed from then on.

A tuning holds for the machine, the engines' versions and the model that it was measured with. Where
one of them is another, as in a folder that was copied, it is left aside, and one line says so.
"""

import functools
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..engines.choice import Setup
from ..errors import SettingError
from ..files import replacing, short_digest
from ..model import catalog
from ..model.bundle import Bundle
from . import machine
from .profiles import AUTO, Profile

log = logging.getLogger("pleinair")

FILE = "tuning.json"
# Engine -> the distributions that it may be installed as.
_DISTRIBUTIONS = {
    "openvino": ("openvino",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"),
}


@dataclass(frozen=True)
class Tuning:
    """What to open a model with where its user says nothing.

    profile: what the profile "auto" stands for.
    setups: profile -> what computes it fastest.
    figures: profile -> what was measured, for people to read.
    """

    profile: str = "exact"
    setups: Mapping[str, Setup] = field(default_factory=dict)
    figures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, bundle: Bundle) -> "Tuning":
        """The one for this machine and model, the user's own before the folder's; else none."""
        for file in (_user_file(bundle), bundle.path / FILE):
            known = _tunings(file)
            found = [one for one in known if one.get("for") == _circumstances(bundle, one)]
            try:
                if found:
                    return cls._read(found[0])
            except (AttributeError, KeyError, TypeError, SettingError):
                _tell(f"{file}: cannot be read, and is not used; make it anew: {command(bundle)}")
                continue
            if known:
                _tell(
                    f"{file}: made on another machine, or for other versions of engine or model, "
                    f"and not used; make it anew: {command(bundle)}"
                )
        return cls()

    @classmethod
    def _read(cls, stated: Mapping[str, Any]) -> "Tuning":
        profiles = stated["profiles"]
        return cls(
            Profile.of(stated["profile"]).name,
            {name: _setup(entry) for name, entry in profiles.items()},
            profiles,
        )

    def named(self, profile: str, loras: bool = False) -> str:
        """The profile that a name stands for.

        loras: LoRA files are to change the UNet, which "auto" then takes exact: its weights of 8
            bits could not be changed.
        Raises SettingError for a name that is not in the table.
        """
        if profile == AUTO:
            return "exact" if loras else self.profile
        return Profile.of(profile).name

    def write(self, bundle: Bundle) -> Path:
        """Put it beside the model, in place of the one that this machine had; returns the file.

        Where the folder is not to be written to, a file of the user's own takes it. Raises
        SettingError where neither can be written; then everything is as it was.
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
        others = [one for one in _tunings(file) if not _same_machine(one)]
        about = f"made by: {command(bundle)}; delete this file to do without"
        _replace(file, {"about": about, "tunings": [*others, entry]})
        if file != (other := _user_file(bundle)):
            other.unlink(missing_ok=True)  # it would be asked first
        return file


def _setup(entry: Mapping[str, Any]) -> Setup:
    """Raises KeyError or TypeError for what is none."""
    engine, threads = entry["engine"], entry["threads"]
    if engine not in _DISTRIBUTIONS or not (threads is None or threads >= 1):
        raise TypeError(f"no setup: {entry}")
    return Setup(engine, threads)


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
    """The file that a tuning is written to: the folder's, or the user's own.

    What is installed with the program, or cannot be written to, is left as it is.
    """
    bundled = bundle.path.resolve() == catalog.bundled().resolve()
    if bundled or not _writable(bundle.path):
        return _user_file(bundle)
    return bundle.path / FILE


def _writable(folder: Path) -> bool:
    """By trying: on Windows permissions do not say it."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _user_file(bundle: Bundle) -> Path:
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


def _tunings(file: Path) -> list[Any]:
    """What a file holds, one entry a machine; nothing where it is not there or no such file."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))["tunings"]
        return [one for one in found if isinstance(one, dict)]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _circumstances(bundle: Bundle, stated: Mapping[str, Any]) -> dict[str, Any]:
    """What a tuning would have to be for to be followed here."""
    try:
        engines: Iterable[str] = stated["for"]["engines"]
        versions = {engine: installed(engine) for engine in engines}
    except (KeyError, TypeError):
        versions = {}
    return {"machine": _machine(), "engines": versions, "model": _model(bundle)}


def _same_machine(stated: Mapping[str, Any]) -> bool:
    entry = stated.get("for")
    return isinstance(entry, dict) and entry.get("machine") == _machine()


@functools.cache
def _machine() -> dict[str, Any]:
    threads = machine.hardware_threads()
    return {"cpu": machine.cpu_name(), "cores": machine.physical_cores(), "threads": threads}


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
