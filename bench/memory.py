"""Resident memory of this process, in bytes. Pages of mapped files count while they are in."""

import sys
import threading
from pathlib import Path
from typing import Any

_EVERY = 0.02  # seconds between two looks; reading costs some 30 microseconds


class Stages:
    """The most that was resident in each stage of what is done inside `with`.

    peaks: stage -> bytes, in the order in which stages were entered; empty where the system does
    not say. A thread looks fifty times a second, so what is held for less can go unseen.
    """

    def __init__(self, first: str) -> None:
        self.peaks: dict[str, int] = {}
        self._stage = first
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def enter(self, stage: str) -> None:
        if stage != self._stage:
            self._look()
            self._stage = stage
        self._look()

    def __enter__(self) -> "Stages":
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._done.wait(_EVERY):
            self._look()

    def _look(self) -> None:
        stage, now = self._stage, resident()
        if now is not None:
            self.peaks[stage] = max(self.peaks.get(stage, 0), now)


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
