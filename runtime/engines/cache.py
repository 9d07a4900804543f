"""Compiled models kept on disk for a quick start: each is there whole, or not there.

OpenVINO has a cache of its own, its CACHE_DIR; docs/decisions/0024 says why this is another.
"""

import contextlib
import functools
import hashlib
import json
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import Message
from ..files import replacing

log = logging.getLogger("pleinair")

_MOST = 1 << 30  # bytes in a folder: of most graphs a few million, of a UNet 60 to 120 million
_DIGEST = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Cache:
    """A folder of compiled models. Any number of processes and threads may use it at once."""

    folder: Path

    def read(self, key: str) -> bytes | None:
        """What was kept under `key`; None where nothing was, or where it is not what was kept."""
        file = self._file(key)
        try:
            kept = file.read_bytes()
            os.utime(file)  # what was used last is removed last
        except OSError:
            return None
        content = kept[_DIGEST:]
        return content if hashlib.sha256(content).digest() == kept[:_DIGEST] else None

    def write(self, key: str, content: bytes) -> None:
        """Keep `content`. Where that cannot be done it is said, and nothing else happens."""
        file = self._file(key)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(file) as part:
                part.write_bytes(hashlib.sha256(content).digest() + content)
            self._remove_oldest()
        except OSError as error:
            log.warning(
                Message(
                    "{0}: compiled models cannot be kept there ({1}); give another folder as "
                    "{cache_dir}",
                    self.folder,
                    error.strerror or error,
                )
            )

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.blob"

    def _remove_oldest(self) -> None:
        """Until the folder holds no more than it may."""
        files = [(file, file.stat()) for file in self.folder.glob("*.blob*")]
        left = sum(facts.st_size for _, facts in files)
        for file, facts in sorted(files, key=lambda file: file[1].st_mtime):
            if left <= _MOST:
                break
            file.unlink(missing_ok=True)
            left -= facts.st_size


def key_of(facts: Mapping[str, Any]) -> str:
    """A name for all that a compiled model depends on, among it our own code that opens graphs."""
    text = json.dumps({**facts, "code": _code()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@functools.cache
def _code() -> str:
    runtime = Path(__file__).parent.parent
    rooms = [runtime / room for room in ("adapters", "engines", "graphs")]
    files = sorted(file for room in rooms for file in room.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def identity(file: Path) -> list[Any]:
    """Which file it is, and whether it is still the same: nobody reads gigabytes to be sure."""
    facts = file.stat()
    return [str(file.resolve()), facts.st_size, facts.st_mtime_ns]


def cache_folder() -> Path | None:
    """Where this user's programs keep what they can make again; None for one without a home.

    The environment's PLEINAIR_CACHE is another.
    """
    named = os.environ.get("PLEINAIR_CACHE")
    if named:
        return Path(named)
    system, usual = {
        "win32": ("LOCALAPPDATA", "AppData/Local"),
        "darwin": ("", "Library/Caches"),
    }.get(sys.platform, ("XDG_CACHE_HOME", ".cache"))
    if given := os.environ.get(system):
        return Path(given) / "pleinair"
    with contextlib.suppress(RuntimeError):
        return Path.home() / usual / "pleinair"
    return None
