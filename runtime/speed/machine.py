"""The machine: its CPU's name and instructions, and how much memory this process may use."""

import contextlib
import platform
import sys
from pathlib import Path

from ..engines import cgroup
from ..engines.cores import sysctl

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
        found.update(sysctl("machdep.cpu.leaf7_features").lower().split())
    return [name for name in _FEATURES if name in found]


def memory() -> tuple[int, int] | None:
    """Bytes that this process may have at most, and that are free now; None where not known."""
    found = _memory()
    if found is None:
        return None
    limit = cgroup.memory()
    if limit is None:
        return found
    return min(found[0], limit[0]), min(found[1], limit[1])


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


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(), value.strip()


def _apple() -> str:
    """Which of Apple's chips: Python only knows that it is an "arm"."""
    return sysctl("machdep.cpu.brand_string")
