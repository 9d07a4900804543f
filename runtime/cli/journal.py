"""What a job over a file of prompts has painted so far, so that a killed one goes on.

A journal stands in the job's output folder, one a job, named by a digest of all that decides its
pictures: the same command finds its own again, another one in the same folder begins its own. It
is append-only, a JSON object a line, each synced before what it tells of happens:

    {"begun": "<digest>", "seed": 7}
    {"item": "0", "file": "samples/00000.png", "sha256": "…"}
    {"item": "1", "withheld": "concept 3 scores 0.25 over 0.21"}

A line about a file is written when the file is whole but has no name yet. So at any moment an item
is done if, and only if, its last line's file stands there with that content; nothing needs to be
written afterwards, and there is no moment at which a kill loses or doubles a picture.
"""

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import SettingError
from ..record.saving import sweep

# Far behind the end: on Windows nobody can read a locked byte, and offsets have 32 bits.
_LOCKED_BYTE = 1 << 30
_SHORT = 12


class Journal:
    """The journal of one job, opened and locked; a context manager."""

    def __init__(self, folder: Path, inputs: Mapping[str, Any], seed: int) -> None:
        """Find the job's journal in its output folder, or begin one.

        inputs: all that decides the job's pictures; with the same, it is the same job.
        seed: the first picture's, kept for when the job goes on.
        Raises SettingError where the folder cannot be written, or another process is at the job.
        """
        self.folder = folder
        self.digest = hashlib.sha256(_line(inputs)).hexdigest()
        self.path = folder / f"journal-{self.owner}.jsonl"
        self.seed = seed
        self._told: dict[str, tuple[Path, str]] = {}
        self._withheld: dict[str, str] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b")
        except OSError as error:
            raise SettingError(f"{self.path}: cannot be written: {error.strerror}") from error
        try:
            self._lock()
            self._recall()
        except BaseException:
            self._file.close()
            raise

    @property
    def owner(self) -> str:
        """What the job's unfinished files have in their names."""
        return self.digest[:_SHORT]

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()  # which ends the lock, as being killed does

    def tell(self, item: str, path: Path, sha256: str) -> None:
        """Note, for good, that an item is about to become the file at `path`."""
        name = path.relative_to(self.folder).as_posix()
        self._append({"item": item, "file": name, "sha256": sha256})
        self._told[item] = path, sha256

    def withhold(self, item: str, why: str) -> None:
        """Note, for good, that an item is done and becomes no file."""
        self._append({"item": item, "withheld": why})
        self._withheld[item] = why

    def withheld(self, item: str) -> str | None:
        """Why an item has become no file; None where it was not withheld."""
        return self._withheld.get(item)

    def done(self, item: str) -> Path | None:
        """The file that an item has become; None where it has yet to be painted."""
        path, sha256 = self._told.get(item, (None, ""))
        if path is None or not path.is_file():
            return None
        return path if hashlib.sha256(path.read_bytes()).hexdigest() == sha256 else None

    def _recall(self) -> None:
        """Take up what stands in the journal, or begin it."""
        begun = False
        for record in self._records():
            if record.get("begun") == self.digest and isinstance(record.get("seed"), int):
                begun, self.seed = True, record["seed"]
            elif all(isinstance(record.get(key), str) for key in ("item", "file", "sha256")):
                self._told[record["item"]] = self.folder / record["file"], record["sha256"]
            elif all(isinstance(record.get(key), str) for key in ("item", "withheld")):
                self._withheld[record["item"]] = record["withheld"]
        if not begun:
            self._append({"begun": self.digest, "seed": self.seed})
        # Nobody else is at this job, so its unfinished files are from one that was killed.
        for folder in (self.folder, self.folder / "samples"):
            sweep(folder, self.owner)

    def _records(self) -> Iterator[dict[str, Any]]:
        """The lines that can be read: the last may be torn, by a kill or by a full disk."""
        self._file.seek(0)
        content = self._file.read()
        if content and not content.endswith(b"\n"):
            self._write(b"\n")
        for line in content.splitlines():
            with contextlib.suppress(ValueError, RecursionError):
                record = json.loads(line)
                if isinstance(record, dict):
                    yield record

    def _append(self, record: Mapping[str, Any]) -> None:
        self._write(_line(record) + b"\n")

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise SettingError(f"{self.path}: cannot be written: {error.strerror}") from error

    def _lock(self) -> None:
        try:
            _lock(self._file)
        except (BlockingIOError, PermissionError):
            raise SettingError(
                f"{self.path}: another process is painting this very job; wait for it, "
                "or give another --outdir"
            ) from None
        except OSError:
            pass  # a file system without locks: better to paint than to refuse


if sys.platform == "win32":
    import msvcrt

    def _lock(file: BinaryIO) -> None:
        file.seek(_LOCKED_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, sort_keys=True, default=str).encode()
