"""Publishing: a folder appears whole or not at all, and only where there is room for it."""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from pleinair.runtime.errors import ExportError
from pleinair.runtime.hub.folders import alone, sync, sync_directory
from pleinair.runtime.hub.folders import require_space as require_space

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
    with alone(target, "export"):
        _tidy(target)
        partial = target.with_name(f".{target.name}.partial-{secrets.token_hex(4)}")
        try:
            partial.mkdir(parents=True)
        except OSError as error:
            raise ExportError(f"cannot write beside {target}: {error.strerror}") from error
        try:
            yield partial
            sync(partial)
            _replace(partial, target)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise ExportError(f"the disk of {target} is full; free some space") from error
        finally:
            _remove(partial)


def _remove(folder: Path) -> None:
    """A second Ctrl-C while it is being removed removes it as well."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _refuse(target: Path, overwrite: bool) -> None:
    if not target.exists():
        return
    if not overwrite:
        raise ExportError(f"{target} exists; choose another folder, or add --overwrite")
    if not any((target / name).is_file() for name in ("model_index.json", manifest.FILE)):
        raise ExportError(f"{target} is no model folder, so it is not replaced; choose another")


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
    sync_directory(target.parent)
