"""Which wheels a bare machine needs: what an export and a picture import here, without torch."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from pleinair.runtime.errors import EngineError

_ROOTS = ("pleinair[export]", "onnxruntime", "pip", "setuptools")
_GPU = "onnxruntime-gpu"
# There already, with what it needs; or there is no use for it.
_LEFT_OUT = {"torch", "torchvision", "onnxruntime", "pleinair"}
_WITHOUT_WHEELS = {"openai-clip"}
_PLATFORMS = ("2_28", "2_27", "2_24", "2_17", "2_12", "2_5")  # manylinux, by glibc


def names(python: str) -> dict[str, str]:
    """Distribution -> version, as installed here, so that what was tried here is what runs there.

    python: the version there, as "3.12".
    """
    found: dict[str, str] = {}
    waiting, seen = list(_ROOTS), set()
    while waiting:
        text = waiting.pop()
        if text in seen:
            continue
        seen.add(text)
        name = text.partition("[")[0]
        if name not in _LEFT_OUT:
            found[name] = version(name)
        elif name == "torch":
            continue
        waiting += _needed(text, python)
    return dict(sorted(found.items()))


def _needed(text: str, python: str) -> Iterator[str]:
    """What a requirement without a version needs in turn, in the same form."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    one = Requirement(text)
    there = {"python_version": python, "python_full_version": f"{python}.0"}
    there |= {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}
    try:
        needs = requires(one.name) or []
    except PackageNotFoundError:
        raise EngineError(f"{one.name} is not installed; it is packed as it is here") from None
    for need in map(Requirement, needs):
        extras = [{"extra": extra} for extra in ("", *one.extras)]
        if need.marker and not any(need.marker.evaluate({**there, **extra}) for extra in extras):
            continue
        name = canonicalize_name(need.name)
        yield f"{name}[{','.join(sorted(need.extras))}]" if need.extras else name


def download(folder: Path, python: str) -> list[str]:
    """Put the wheels into a folder, and return their requirements; EngineError where pip fails."""
    wanted = names(python)
    pins = [f"{name}=={number}" for name, number in wanted.items() if name not in _WITHOUT_WHEELS]
    platforms = [f"--platform=manylinux_{glibc}_x86_64" for glibc in _PLATFORMS]
    exact = ["--no-deps", "--only-binary=:all:", f"--python-version={python}", *platforms]
    _pip("download", "--dest", str(folder), *exact, "--implementation=cp", *pins, _GPU)
    built = [f"{name}=={wanted[name]}" for name in sorted(_WITHOUT_WHEELS & wanted.keys())]
    if built:
        _pip("wheel", "--wheel-dir", str(folder), "--no-deps", *built)
    return [*pins, *built, _GPU]


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", *arguments]
    done = subprocess.run(command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise EngineError(f"pip failed: {(lines or ['no word'])[-1].strip()[:300]}")
