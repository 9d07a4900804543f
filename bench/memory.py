"""Resident memory of this process, in bytes. Pages of mapped files count while they are in."""

import sys
from pathlib import Path
from typing import Any


def peak() -> int | None:
    """The most that was ever resident; None where the system does not say.

    Linux is asked for VmHWM: `ru_maxrss` there begins at what the parent had when it forked.
    """
    if sys.platform == "linux":
        return _status("VmHWM")
    if sys.platform == "win32":
        info = _psutil_info()
        return None if info is None else info.peak_wset
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def resident() -> int | None:
    """What is resident now; None where the system does not say and psutil is not installed."""
    if sys.platform == "linux":
        return _status("VmRSS")
    info = _psutil_info()
    return None if info is None else info.rss


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").split("\n"):
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {name}")


def _psutil_info() -> Any:
    try:
        import psutil
    except ImportError:
        return None
    return psutil.Process().memory_info()
