"""Graphs whose weights LoRA files have changed, kept as files: the next start finds them merged.

Unlike a compiled model each has all of its weights, so only a few are kept.
"""

import contextlib
import logging
import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import Message

log = logging.getLogger("pleinair")

_MOST = 4 << 30
"""Bytes in a folder: four of Stable Diffusion 1's UNets in 8 bits, or one of XL's."""
_FILE = "openvino_model.xml"


@dataclass(frozen=True)
class MergedGraphs:
    """A folder of them, one folder each. Any number of processes may use it at once."""

    folder: Path

    def graph(self, key: str, size: int, write: Callable[[Path], None]) -> Path | None:
        """The graph kept under `key`, written by `write` where none is.

        size: bytes that it takes, about. None where it cannot be kept: a disk is full, or the
        folder cannot be written, which is said once a call.
        """
        file = self.folder / key / _FILE
        with contextlib.suppress(OSError):
            os.utime(file)  # what was used last is removed last
            return file
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if size > _MOST or 2 * size > shutil.disk_usage(self.folder).free:
                return None
            self._keep(file, write)
            self._remove_oldest(key)
        except OSError as error:
            log.warning(
                Message(
                    "{0}: graphs changed by LoRA files cannot be kept there ({1}); give another "
                    "folder as {cache_dir}",
                    self.folder,
                    error.strerror or error,
                )
            )
            return None
        return file

    def _keep(self, file: Path, write: Callable[[Path], None]) -> None:
        """Another process may keep the same meanwhile: then that is taken."""
        part = self.folder / f".{file.parent.name}.{secrets.token_hex(4)}.partial"
        try:
            part.mkdir()
            write(part / file.name)
            for written in part.iterdir():
                with written.open("rb+") as opened:
                    os.fsync(opened.fileno())
            with contextlib.suppress(OSError):
                part.rename(file.parent)
            if not file.exists():
                raise OSError("it was not written")
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _remove_oldest(self, key: str) -> None:
        """Until the folder holds no more than it may; never what is about to be used."""
        kept = [(graph.stat().st_mtime, graph.parent) for graph in self.folder.glob(f"*/{_FILE}")]
        sizes = {one: sum(file.stat().st_size for file in one.iterdir()) for _, one in kept}
        left = sum(sizes.values())
        for _, one in sorted(kept):
            if left > _MOST and one.name != key:
                shutil.rmtree(one, ignore_errors=True)
                left -= sizes[one]
