"""The machine: what its CPU is called, and how much of it this process may use."""

import os
import platform
import subprocess
import sys
from pathlib import Path


def cpu_name() -> str:
    for line in _cpuinfo().splitlines():
        name, value = _field(line)
        if name == "model name":
            return value
    if sys.platform == "darwin" and (name := _apple()):
        return name
    return platform.processor() or platform.machine()


def physical_cores() -> int:
    """Cores this process may use: two threads of one core do not speed a matrix product up.

    Where neither psutil nor /proc tells cores from hardware threads, the threads are counted.
    """
    return min(_cores() or hardware_threads(), hardware_threads())


def hardware_threads() -> int:
    """Hardware threads this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return usable or 1


def _cores() -> int | None:
    try:
        import psutil
    except ImportError:
        pairs: set[tuple[str | None, str]] = set()
        for block in _cpuinfo().split("\n\n"):
            found = dict(_field(line) for line in block.splitlines() if ":" in line)
            if "core id" in found:
                pairs.add((found.get("physical id"), found["core id"]))
        return len(pairs) or None
    cores: int | None = psutil.cpu_count(logical=False)
    return cores


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(), value.strip()


def _apple() -> str:
    """Which of Apple's chips: Python only knows that it is an "arm"."""
    command = ["sysctl", "-n", "machdep.cpu.brand_string"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
