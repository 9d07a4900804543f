"""What a container may take of its machine: the limits of Linux' control groups."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_OF_PROCESS = Path("/proc/self/cgroup")


def cpu_quota() -> float | None:
    """How many CPUs' time may be taken; None without a limit."""
    shares = []
    for folder in _groups("cpu"):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        if not quota:  # the first version keeps them apart
            quota, period = (_read(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        if quota.isdecimal() and period.isdecimal() and int(period):
            shares.append(int(quota) / int(period))
    return min(shares, default=None)


def memory() -> tuple[int, int] | None:
    """Bytes that may be taken at most, and that are left of them; None without a limit."""
    limits = []
    for folder in _groups("memory"):
        most = _read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes")
        used = _read(folder / "memory.current") or _read(folder / "memory.usage_in_bytes")
        if most.isdecimal():
            limits.append((int(most), int(most) - int(used if used.isdecimal() else 0)))
    if not limits:
        return None
    return min(most for most, _ in limits), max(0, min(left for _, left in limits))


def _groups(controller: str) -> Iterator[Path]:
    """The folders of the process's group and of all above it, each of which limits it.

    In a container the group that /proc names may lie outside; the root is then its own.
    """
    for line in _read(_OF_PROCESS).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            root = _ROOT
        elif controller in controllers.split(","):
            root = _ROOT / controller
        else:
            continue
        folder = root / path.strip("/")
        while folder != root and root in folder.parents:
            yield folder
            folder = folder.parent
        yield root


def _read(file: Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return file.read_text(encoding="utf-8").strip()
    return ""
