"""Folders written whole: a lock for one, room for it, and every file on the disk for sure."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import ExportError


@contextlib.contextmanager
def alone(target: Path, what: str) -> Iterator[None]:
    """Hold a lock for `target`, which dies with its process: a crash never blocks the next one.

    Raises `ExportError` when another process, doing `what`, holds it.
    """
    from filelock import FileLock, Timeout

    name = hashlib.sha256(os.fsencode(target)).hexdigest()[:16]
    lock = FileLock(Path(tempfile.gettempdir()) / f"pleinair-{what}-{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ExportError(f"another {what} is writing {target}; wait for it") from error
    try:
        yield
    finally:
        lock.release()


def sync(folder: Path) -> None:
    """Bring every file to the disk, so that a power cut cannot leave a named but empty file."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as opened:
                os.fsync(opened.fileno())
        else:
            sync_directory(path)
    sync_directory(folder)


def sync_directory(folder: Path) -> None:
    # Windows has no directory handles to sync; its rename is journalled.
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def require_space(target: Path, needed: int) -> None:
    """Raise `ExportError` unless the disk of `target` has `needed` bytes free."""
    existing = Path(os.path.abspath(target)).parent
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise ExportError(
            f"{target} needs {needed / 1e9:.1f} GB and {existing} has {free / 1e9:.1f} GB free; "
            "free some space or choose a folder on another disk"
        )
