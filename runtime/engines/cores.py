"""The CPU's cores: how many there are, of which kind, and how many this process may use."""

import contextlib
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from . import cgroup

if sys.platform == "win32":
    import ctypes

_CPUS = Path("/sys/devices/system/cpu")
_NODES = Path("/sys/devices/system/node")
_INTEL_PERFORMANCE, _INTEL_EFFICIENT = (
    Path(f"/sys/devices/cpu_{kind}/cpus") for kind in ("core", "atom")
)
_LARGE = 0.5  # of the largest core's capacity: Arm's cores of more are for performance


def hardware_threads() -> int:
    """Hardware threads this process may use."""
    return len(_usable())


def physical_cores() -> int:
    """Cores this process may use: two threads of one core do not speed a matrix product up.

    Where neither psutil nor the system tells cores from hardware threads, the threads are counted.
    """
    return min(_all_cores() or hardware_threads(), hardware_threads())


def leave_some(threads: int | None) -> bool:
    """Whether so many threads leave cores to other processes; None are as many as there are."""
    return threads is not None and threads < (performance_cores() or physical_cores())


def performance_cores() -> int | None:
    """Of a processor with cores of two kinds those for performance; None for any other."""
    if sys.platform == "win32":
        return _fastest(classes(_windows_records()))
    if sys.platform == "darwin":
        fast = sysctl("hw.perflevel0.physicalcpu")
        slow = sysctl("hw.perflevel1.physicalcpu")
        return int(fast) if fast.isdecimal() and slow.isdecimal() and int(slow) else None
    fast, slow = _cpus(_INTEL_PERFORMANCE), _cpus(_INTEL_EFFICIENT)
    if not (fast and slow):
        fast, slow = _by_capacity()
    fast, slow = fast & _usable(), slow & _usable()
    return len(_distinct(fast)) if fast and slow else None


def numa_nodes() -> int:
    """Parts of the memory that each belong to some of the cores, of those this process may use."""
    nodes = (_cpus(node / "cpulist") for node in _NODES.glob("node[0-9]*"))
    return max(1, sum(1 for cpus in nodes if cpus & _usable()))


def granted() -> int | None:
    """Threads that a container's share of CPU time is worth; None where it has all of its cores."""
    quota = cgroup.cpu_quota()
    if quota is None or quota >= physical_cores():
        return None
    return max(1, math.ceil(quota))


def classes(records: bytes) -> list[int]:
    """Windows' efficiency class of each core, of what GetLogicalProcessorInformationEx wrote.

    Each record says its length at byte 4 and, of a core, the class at byte 9; larger is faster.
    """
    found, at = [], 0
    while at + 10 <= len(records):
        found.append(records[at + 9])
        at += max(10, int.from_bytes(records[at + 4 : at + 8], "little"))
    return found


def _fastest(classes: Sequence[int]) -> int | None:
    return classes.count(max(classes)) if len(set(classes)) > 1 else None


def _windows_records() -> bytes:
    """Of all cores; nothing where Windows gives none."""
    if sys.platform == "win32":
        ask, size = ctypes.windll.kernel32.GetLogicalProcessorInformationEx, ctypes.c_ulong(0)
        ask(0, None, ctypes.byref(size))
        records = ctypes.create_string_buffer(size.value)
        if ask(0, records, ctypes.byref(size)):
            return records.raw
    return b""


def _usable() -> set[int]:
    """The numbers of the hardware threads this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def _all_cores() -> int | None:
    try:
        import psutil
    except ImportError:
        return len(_distinct(_usable())) or None
    cores: int | None = psutil.cpu_count(logical=False)
    return cores


def _distinct(threads: set[int]) -> set[str]:
    """The cores that hardware threads are of; Linux names a core by its threads."""
    files = ("core_cpus_list", "thread_siblings_list")
    named = (
        next(filter(None, (_text(_CPUS / f"cpu{one}" / "topology" / file) for file in files)), "")
        for one in threads
    )
    return set(filter(None, named))


def _by_capacity() -> tuple[set[int], set[int]]:
    """Hardware threads of Arm's large cores, and of the others."""
    stated = {one: _text(_CPUS / f"cpu{one}" / "cpu_capacity") for one in _usable()}
    capacity = {one: int(text) for one, text in stated.items() if text.isdecimal()}
    least = _LARGE * max(capacity.values(), default=0)
    large = {one for one, size in capacity.items() if size > least}
    return large, set(capacity) - large


def _cpus(file: Path) -> set[int]:
    """The numbers that a list of Linux' names, as "0-3,8"; none where there is no such file."""
    found: set[int] = set()
    for part in filter(None, _text(file).split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def _text(file: Path) -> str:
    with contextlib.suppress(OSError):
        return file.read_text(encoding="utf-8").strip()
    return ""


def sysctl(name: str) -> str:
    """What macOS says of itself under a name; empty where it says nothing."""
    command = ["sysctl", "-n", name]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, timeout=5).stdout.strip()
    return ""
