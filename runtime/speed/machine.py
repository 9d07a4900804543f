"""The machine: its CPU and its memory, and how much of them this process may use."""

import contextlib
import os
import platform
import subprocess
import sys
from pathlib import Path

if sys.platform == "win32":
    import ctypes

_FEATURES = (
    "sse4_2",
    "avx2",
    "avx512f",
    "avx_vnni",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
)


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


def features() -> list[str]:
    """The vector instructions of the CPU that painting gains from, as Linux names them.

    Other systems name AVX2 and AVX-512 at most; [] where nothing is known.
    """
    if sys.platform == "win32":
        present = ctypes.windll.kernel32.IsProcessorFeaturePresent
        return [name for number, name in ((40, "avx2"), (41, "avx512f")) if present(number)]
    found: set[str] = set()
    for line in _cpuinfo().splitlines():
        name, value = _field(line)
        if name in ("flags", "Features"):
            found.update(value.split())
    if sys.platform == "darwin":
        found.update(_sysctl("machdep.cpu.leaf7_features").lower().split())
    return [name for name in _FEATURES if name in found]


def cpu_quota() -> float | None:
    """How many CPUs' time a container may take; None without a limit."""
    quota, period = _cgroup("cpu.max").split() or ["max", "0"]
    return None if quota == "max" else int(quota) / int(period)


def memory() -> tuple[int, int] | None:
    """Bytes that this process may have at most, and that are free now; None where not known."""
    found = _memory()
    if found is None:
        return None
    limit = _cgroup("memory.max").strip()
    most = int(limit) if limit.isdecimal() else found[0]
    used = _cgroup("memory.current").strip()
    left = most - int(used) if limit.isdecimal() and used.isdecimal() else found[1]
    return min(found[0], most), max(0, min(found[1], left))


def _memory() -> tuple[int, int] | None:
    """Of the machine."""
    try:
        import psutil
    except ImportError:
        sizes = {}
        with contextlib.suppress(OSError):
            for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
                name, value = _field(line)
                sizes[name] = int(value.split()[0]) * 1024
        if "MemTotal" in sizes:
            return sizes["MemTotal"], sizes.get("MemAvailable", sizes["MemFree"])
        return None
    memory = psutil.virtual_memory()
    return memory.total, memory.available


def _cgroup(file: str) -> str:
    """A file of this process's control group, version 2; empty where there is none."""
    root = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError):
        path = Path("/proc/self/cgroup").read_text(encoding="utf-8").rpartition("::/")[2].strip()
        # In a container the group that /proc names may lie outside; the root is then its own.
        for folder in (root / path, root):
            if (folder / file).is_file():
                return (folder / file).read_text(encoding="utf-8")
    return ""


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
    return _sysctl("machdep.cpu.brand_string")


def _sysctl(name: str) -> str:
    command = ["sysctl", "-n", name]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
