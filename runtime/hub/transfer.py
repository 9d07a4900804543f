"""Files of a repository, brought into a folder: resumed where they stopped, checked, then named.

huggingface_hub itself starts a file anew when its process was killed. Here what has arrived stays
in `NAME.partial`, and the next run asks for the rest.
"""

import errno
import hashlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, cast

from ..errors import ExportError, SourceError
from .repository import File, Repository, plainly

Report = Callable[[str, int], None]
"""Told a file's name and how many bytes of it have come; less than none when it begins anew."""


def missing(files: Iterable[File], folder: Path) -> int:
    """How many bytes of these files are not in `folder` yet, of those whose size is known."""
    return sum(
        max(0, file.size - _size(folder / file.path) - _size(_partial(folder, file)))
        for file in files
        if file.size is not None
    )


def fetch(repository: Repository, files: Iterable[File], folder: Path, report: Report) -> None:
    """Bring those of `files` that are not there into `folder`, one after the other.

    Raises `UnreachableError` where a transfer breaks off, `SourceError` where the hub refuses one
    or what arrived is not what it lists, `ExportError` where the disk is full. What has come stays.
    """
    for file in files:
        if not (folder / file.path).is_file():
            with plainly(repository.name, repository.commit):
                _fetch(repository, file, folder, report)


def _fetch(repository: Repository, file: File, folder: Path, report: Report) -> None:
    partial = _partial(folder, file)
    partial.parent.mkdir(parents=True, exist_ok=True)
    begun = _size(partial)
    if begun and (file.size is None or begun > file.size):
        partial.unlink()  # of what size it should be is not known, or it is too long
    try:
        if not _copy_cached(repository, file, partial):
            _transfer(repository, file, partial, report)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise ExportError(
            f"the disk of {folder} is full; free some space and run again to go on"
        ) from error
    try:
        check(partial, file, repository.name)
    except SourceError:
        partial.unlink()
        raise
    partial.replace(folder / file.path)


def _copy_cached(repository: Repository, file: File, partial: Path) -> bool:
    """Copy a file that diffusers or another program has put into the hub's cache."""
    from huggingface_hub import constants, try_to_load_from_cache

    cached = try_to_load_from_cache(
        repository.name,
        file.path,
        cache_dir=constants.HF_HUB_CACHE,
        revision=repository.commit,
    )
    if isinstance(cached, str):
        shutil.copyfile(cached, partial)
    return isinstance(cached, str)


def _transfer(repository: Repository, file: File, partial: Path, report: Report) -> None:
    from huggingface_hub import constants, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers, disable_progress_bars

    disable_progress_bars()  # ours counts all files at once
    url = hf_hub_url(
        repository.name, file.path, revision=repository.commit, endpoint=constants.ENDPOINT
    )
    with partial.open("ab") as opened:
        http_get(
            url,
            cast(BinaryIO, _Counted(opened, lambda come: report(file.path, come))),
            resume_size=_size(partial),
            headers=build_hf_headers(),
            expected_size=file.size,
        )


class _Counted:
    """A file that tells how much is written to it, and how much is taken back."""

    def __init__(self, file: BinaryIO, report: Callable[[int], None]) -> None:
        self._file = file
        self._report = report

    def write(self, block: bytes) -> int:
        written = self._file.write(block)
        self._file.flush()  # what has come is safe from a kill
        self._report(written)
        return written

    def truncate(self, size: int | None = None) -> int:
        self._file.flush()
        before = _size(Path(self._file.name))
        after = self._file.truncate(size)
        self._report(after - before)
        return after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def check(path: Path, file: File, where: str) -> None:
    """Raise `SourceError` unless the file at `path` is what the hub lists, as far as it says."""
    size = _size(path)
    if file.size is not None and size != file.size:
        raise SourceError(
            f"{where}/{file.path}: {size:,} of {file.size:,} bytes arrived; run again to fetch it"
        )
    for wanted, digest in (
        (file.sha256, hashlib.sha256()),
        (file.blob, hashlib.sha1(b"blob %d\0" % size)),  # as git names a content
    ):
        if wanted and _digest(path, digest) != wanted:
            raise SourceError(
                f"{where}/{file.path}: damaged: its checksum is not the one that the hub lists; "
                "run again to fetch it anew"
            )


def sha256(path: Path) -> str:
    return _digest(path, hashlib.sha256())


def _digest(path: Path, digest: Any) -> str:
    with path.open("rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return str(digest.hexdigest())


def _partial(folder: Path, file: File) -> Path:
    path = folder / file.path
    return path.with_name(f"{path.name}.partial")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
