"""The systems that can be given the same picture to paint, one file each.

A file is found by its name. It has

- `unable(job) -> str | None`: why it cannot do the job here, found without importing it;
- `paint(job, watch) -> Times`: does it, as the system's own documentation would;
- `SETTINGS`: what may stand behind its name, as `precision` in "diffusers:precision=f32"; without
  them it has the settings in which it is at its best. Ours take a way to paint instead.
"""

import importlib
import importlib.util
import pkgutil
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

from pleinair.runtime.errors import SettingError, shown

from .. import machine
from ..way import Way
from ..worker import Watch

# Short name -> diffusers class, for the solvers that all systems have.
SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler",
    "lcm": "LCMScheduler",
    "tcd": "TCDScheduler",
    "pndm": "PNDMScheduler",
}


@dataclass(frozen=True)
class Job:
    """One picture, the same for every system.

    model: the converted folder; checkpoint: the diffusers folder it was made from, or None;
    single_file: that as one .safetensors in the original layout, or None.
    size: both sides in pixels. scheduler: a name in SCHEDULERS. threads: of the CPU.
    output: the PNG to write. way: how ours paints, see `way.Way`; of others their settings.
    """

    model: str
    checkpoint: str | None
    prompt: str
    size: int
    steps: int
    guidance: float
    scheduler: str
    threads: int
    seed: int
    output: str
    way: str = ""
    single_file: str | None = None


@dataclass(frozen=True)
class Times:
    """Seconds.

    ready: from the start of the process until everything is imported, loaded and compiled.
    encode: both prompts. steps: each step, guided and unguided half together. decode: the VAE.
    picture: from the prompt to the saved PNG, without `ready`.
    """

    ready: float
    encode: float
    steps: list[float]
    decode: float
    picture: float


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name}")


def ours(name: str) -> bool:
    """Whether a system takes a way to paint."""
    return name.startswith("pleinair")


def settings(way: str) -> dict[str, str]:
    """Those of a system that is not ours: NAME=VALUE between commas."""
    pairs = (word.partition("=") for word in way.split(",") if word)
    return {name.strip(): value.strip() for name, _, value in pairs}


def check(name: str, way: str) -> None:
    """Raise SettingError for what may not stand behind a system's name."""
    if ours(name):
        Way.read(way)
        return
    known = load(name).SETTINGS
    for setting, value in settings(way).items():
        if setting not in known or not value:
            raise SettingError(
                f"{name} has no setting {shown(setting)}; it has: "
                f"{', '.join(f'{one}=VALUE' for one in known) or 'none'}"
            )


def missing(*modules: str) -> str | None:
    """Say which of these Python modules are not installed."""
    absent = [name for name in modules if not _installed(name)]
    return f"not installed: {', '.join(absent)}" if absent else None


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it would be in
        return False


def paint(job: dict[str, Any], watch: Watch) -> dict[str, Any]:
    """The worker's way in: `job` is a Job's fields and the name of the "system"."""
    system, fields = _system(job)
    return asdict(system.paint(fields, watch)) | {"libraries": machine.versions()}


def unable(job: dict[str, Any], watch: Watch | None) -> dict[str, Any]:
    """The worker's way in, with the same job: {"reason": why the system cannot do it, or None}."""
    system, fields = _system(job)
    return {"reason": system.unable(fields)}


def _system(job: dict[str, Any]) -> tuple[ModuleType, Job]:
    fields = dict(job)
    return load(fields.pop("system")), Job(**fields)
