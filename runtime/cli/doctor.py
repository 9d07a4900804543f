"""`pleinair doctor`: what a bug report needs to say, and what is wrong on this machine."""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeAlias

from .. import __version__
from ..engines import cgroup, cores
from ..engines.cache import cache_folder
from ..errors import PleinairError
from ..exits import MISTAKE, harmless
from ..model import catalog
from ..model.bundle import Bundle
from ..speed import machine
from . import arguments, config
from .parser import Parser

_LIBRARIES = ("numpy", "openvino", "tokenizers", "Pillow", "msgspec", "rich")
_EXTRAS = {
    "onnx": ("onnxruntime",),
    "hub": ("huggingface_hub", "filelock"),
    "export": ("torch", "diffusers", "transformers", "safetensors", "onnx"),
    "int8": ("nncf",),
}
"""Extra -> the modules that it brings, all of which have to be there."""
_ENGINES = {
    name: f"from pleinair.runtime.cli import engine_facts; print(engine_facts.{name}())"
    for name in ("openvino", "onnxruntime")
}
"""Engine -> what shows that it loads, and says what it computes with."""
_ILLEGAL = {-4, 0xC000001D}
"""How a process ends that meets an instruction which its processor does not have."""
_HUB = ("HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_HOME", "HF_TOKEN")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_LITTLE_DISK = 1e9
_LITTLE_MEMORY = 1e9

Found: TypeAlias = Iterator[tuple[str, str, str]]
"""What was looked at, what was found, and what to do where it is wrong, else ""."""


def parser() -> Parser:
    return Parser(
        "pleinair doctor",
        description="Say what a bug report needs, and what is wrong here. Nothing is fetched or "
        "sent. Exit code 2 where something is wrong.",
    )


def doctor(argv: Sequence[str]) -> int:
    parser().parse_args(argv)
    wrong = []
    for look in (_program, _processor, _memory, _engines, _models, _folders, _settings, _hub):
        for name, found, advice in look():
            print(harmless(f"{name}: {found}"))
            if advice:
                wrong.append(f"wrong: {name}: {advice}")
    for line in wrong or ["nothing is wrong"]:
        print(harmless(line))
    return MISTAKE if wrong else 0


def _program() -> Found:
    yield "pleinair", f"{__version__}, in {Path(__file__).parents[2]}", ""
    yield "python", f"{platform.python_version()}, {sys.executable}", ""
    yield "system", f"{platform.platform()}, text in {sys.stdout.encoding}", ""
    yield "libraries", ", ".join(f"{name} {_version(name)}" for name in _LIBRARIES), ""
    for extra, modules in _EXTRAS.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        here = ", ".join(f"{name} {_version(name)}" for name in modules if name not in missing)
        absent = f"not installed: {', '.join(missing)}" if missing else ""
        yield f"extra {extra}", "; ".join(filter(None, (here, absent))), ""


def _processor() -> Found:
    yield "processor", f"{machine.cpu_name()}, {platform.machine()}", ""
    yield "instructions", " ".join(machine.features()) or "not known on this system", ""
    physical, nodes = cores.physical_cores(), cores.numa_nodes()
    words = [f"{physical}, of {cores.hardware_threads()} hardware threads"]
    if performance := cores.performance_cores():
        words.append(f"{performance} of them for performance")
    if nodes > 1:
        words.append(f"in {nodes} NUMA nodes: a server gives streams={nodes} or more")
    if (quota := cgroup.cpu_quota()) is not None:
        words.append(f"the container may take {quota:g}")
    yield "cores", "; ".join(words), ""
    threads = cores.granted() or physical
    yield "threads that paint", f"{threads}, unless --threads says otherwise", ""


def _memory() -> Found:
    found = machine.memory()
    if found is None:
        yield "memory", "not known on this system", ""
        return
    most, free = found
    advice = "little is free; close other programs, or give --max-memory"
    words = f"{most / 1e9:.1f} GB, {free / 1e9:.1f} GB free"
    yield "memory", words, advice if free < _LITTLE_MEMORY else ""


def _engines() -> Found:
    for name, code in _ENGINES.items():
        if importlib.util.find_spec(name) is None:
            continue
        command = [sys.executable, "-c", code]
        # In a process of its own: what a processor cannot execute ends it.
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            yield f"engine {name}", f"loads; {done.stdout.strip()}", ""
        else:
            yield f"engine {name}", "does not load", _advice(name, done)


def _advice(engine: str, done: subprocess.CompletedProcess[str]) -> str:
    """What to do about an engine that ended the process it was loaded in."""
    if done.returncode in _ILLEGAL:
        others = ", ".join(name for name in _ENGINES if name != engine) or "another machine"
        return f"it uses an instruction that this processor does not have; try {others}"
    last = (done.stderr.strip().splitlines() or [f"ends with {done.returncode}"])[-1]
    return f"{last}; install it anew with: pip install --force-reinstall {engine}"


def _models() -> Found:
    for folder in catalog.installed():
        try:
            formats = ", ".join(Bundle.open(folder).graphs)
            yield f"model {folder}", formats, ""
        except PleinairError as error:
            yield f"model {folder}", "cannot be used", str(error)
    known = [str(folder.absolute()) for folder in catalog.folders() if folder.is_dir()]
    yield "models are looked for in", ", ".join(known), ""


def _folders() -> Found:
    cache = cache_folder()
    if cache is None:
        yield "cache of compiled models", "none", "this user has no home; set PLEINAIR_CACHE"
    else:
        yield "cache of compiled models", *_room(cache, "set PLEINAIR_CACHE to another folder")
    pictures = arguments.DEFAULT_OUTDIR.absolute()
    yield "pictures", *_room(pictures, "give --outdir")


def _room(folder: Path, otherwise: str) -> tuple[str, str]:
    """Whether a folder can be written to, or made, and what its disk has free."""
    there = folder
    while not there.exists():
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return f"{folder}, not writable", f"{error.strerror}; {otherwise}"
    free = shutil.disk_usage(there).free
    advice = f"its disk is nearly full; make room, or {otherwise}"
    return f"{folder}, {free / 1e9:.1f} GB free", advice if free < _LITTLE_DISK else ""


def _settings() -> Found:
    try:
        found = config.defaults(arguments.parser(), {})
    except PleinairError as error:
        yield "defaults of yours", "cannot be read", str(error)
    else:
        words = ", ".join(f"{name}={value}" for name, value in found.items())
        yield "defaults of yours", words or "none", ""
    ours = sorted(name for name in os.environ if name.startswith("PLEINAIR_"))
    yield "environment", ", ".join(f"{name}={os.environ[name]}" for name in ours) or "none", ""


def _hub() -> Found:
    """What is set for it; never a value, which may hold a password."""
    words = [f"{name} is set" for name in _HUB if name in os.environ]
    words += [f"{name} is set" for name in _PROXIES if {name, name.lower()} & set(os.environ)]
    yield "model hub", ", ".join(words) or "as it comes: no mirror, token or proxy is set", ""


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"
