"""Where a measurement was made: without it a figure means nothing."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_LIBRARIES = (
    "pleinair",
    "numpy",
    "openvino",
    "openvino-genai",
    "openvino-tokenizers",
    "onnxruntime",
    "torch",
    "diffusers",
    "transformers",
    "optimum-intel",
    "optimum-onnx",
    "stable-diffusion-cpp-python",
)


def facts() -> dict[str, Any]:
    """CPU, cores, memory, system, library versions, and how busy the machine is right now."""
    return {
        "cpu": _cpu_name(),
        "architecture": platform.machine(),
        "physical_cores": physical_cores(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "libraries": versions(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }


def sentence(facts: dict[str, Any]) -> str:
    """The facts for the head of a table."""
    libraries = ", ".join(f"{name} {number}" for name, number in facts["libraries"].items())
    load = facts["load_average"]
    busy = f" Load average at the start: {load[0]:.1f}." if load else ""
    return (
        f"{facts['cpu']} ({facts['architecture']}), {facts['physical_cores']} cores, "
        f"{facts['system']}, Python {facts['python']}, {libraries}.{busy}"
    )


def physical_cores() -> int:
    """Cores this process may use: two threads of one core do not speed a matrix product up.

    Where neither psutil nor /proc tells cores from hardware threads, the threads are counted.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(_cores() or usable or 1, usable or 1)


def _cores() -> int | None:
    try:
        import psutil
    except ImportError:
        pairs = set()
        for block in _cpuinfo().split("\n\n"):
            found = dict(_field(line) for line in block.splitlines() if ":" in line)
            if "core id" in found:
                pairs.add((found.get("physical id"), found["core id"]))
        return len(pairs) or None
    cores: int | None = psutil.cpu_count(logical=False)
    return cores


def _cpu_name() -> str:
    for line in _cpuinfo().splitlines():
        name, value = _field(line)
        if name == "model name":
            return value
    return platform.processor() or platform.machine()


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(), value.strip()


def versions() -> dict[str, str]:
    """Library -> version, of those that are in this environment."""
    return {name: found for name in _LIBRARIES if (found := _version(name))}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
