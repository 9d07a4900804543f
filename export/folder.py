"""Publishing: a folder appears whole or not at all, and only where there is room for it."""

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from pleinair.runtime.errors import ExportError

from . import manifest


@contextlib.contextmanager
def publishing(target: Path, overwrite: bool = False) -> Iterator[Path]:
    """Give an empty folder beside `target`; rename it to `target` when the block ends well.

    Left by an exception (Ctrl-C too), the folder is removed. A killed process can leave only
    `.NAME.partial-…`, which the next export to the same target removes. Raises `ExportError` when
    `target` exists and may not be overwritten (only model folders ever are), when another export
    is writing it, or when it cannot be written.
    """
    target = Path(os.path.abspath(target))
    _refuse(target, overwrite)
    with _alone(target):
        _tidy(target)
        partial = target.with_name(f".{target.name}.partial-{secrets.token_hex(4)}")
        try:
            partial.mkdir(parents=True)
        except OSError as error:
            raise ExportError(f"cannot write beside {target}: {error.strerror}") from error
        try:
            yield partial
            _sync(partial)
            _replace(partial, target)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise ExportError(f"the disk of {target} is full; free some space") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _refuse(target: Path, overwrite: bool) -> None:
    if not target.exists():
        return
    if not overwrite:
        raise ExportError(f"{target} exists; choose another folder, or add --overwrite")
    if not any((target / name).is_file() for name in ("model_index.json", manifest.FILE)):
        raise ExportError(f"{target} is no model folder, so it is not replaced; choose another")


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Hold a lock for `target`. It dies with its process, so a crash never blocks the next one."""
    name = hashlib.sha256(os.fsencode(target)).hexdigest()[:16]
    lock = FileLock(Path(tempfile.gettempdir()) / f"pleinair-export-{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ExportError(f"another export is writing {target}; wait for it") from error
    try:
        yield
    finally:
        lock.release()


def _tidy(target: Path) -> None:
    """Finish what a killed export began: put a replaced folder back, remove unfinished ones."""
    old = _aside(target)
    if old.exists() and not target.exists():
        old.rename(target)
    for left in [old, *target.parent.glob(f".{target.name}.partial-*")]:
        shutil.rmtree(left, ignore_errors=True)


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.replaced")


def _replace(partial: Path, target: Path) -> None:
    """Rename `partial` to `target`; what stood there steps aside and comes back on failure."""
    old = _aside(target)
    if target.exists():
        target.rename(old)
    try:
        partial.rename(target)
    except OSError as error:
        if old.exists():
            old.rename(target)
        raise ExportError(f"cannot rename the finished folder to {target}: {error}") from error
    shutil.rmtree(old, ignore_errors=True)
    _sync_directory(target.parent)


def _sync(folder: Path) -> None:
    """Bring every file to the disk, so that a power cut cannot leave a named but empty file."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as opened:
                os.fsync(opened.fileno())
        else:
            _sync_directory(path)
    _sync_directory(folder)


def _sync_directory(folder: Path) -> None:
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
