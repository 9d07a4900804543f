"""`pleinair.json`: where a folder came from, what is in it, and whether that still is so."""

import functools
import hashlib
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from ..errors import BundleError, shown
from ..files import conform, present

log = logging.getLogger("pleinair")

FILE = "pleinair.json"
HEAD = 64 << 10
"""Bytes at the beginning of a file whose digest may be stated, beside that of all of it."""
# Bytes of the largest file that is read whole on opening; of larger ones the size and the head are
# compared.
_SMALL = 4 << 20
# What people edit: settings, which are checked when they are read, and notes. Graphs, weights and
# tokenizers are what was exported, or nothing.
_EDITABLE = re.compile(
    r"model_index\.json|([^/]+/)?(scheduler_config|config|preprocessor_config)\.json|.*\.md"
)

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


Timestep = Annotated[int, Meta(ge=0, le=1_000_000)]


class FileFacts(Struct):
    """A file as it was exported. head: sha256 of its first 64 KiB; None where nobody noted it."""

    bytes: Annotated[int, Meta(ge=0, le=1 << 50)]
    sha256: Sha256
    head: Sha256 | None = None


class Source(Struct):
    """Where a folder came from: a hub id, a file or a folder."""

    name: str | None = None


class Settings(Struct):
    """What a folder recommends for itself; None is what the catalog or its kind does."""

    size: Annotated[int, Meta(ge=8, le=1 << 15)] | None = None
    steps: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    guidance_scale: Annotated[float, Meta(ge=0, le=1000)] | None = None
    scheduler: str | None = None
    eta: Annotated[float, Meta(ge=0, le=1)] | None = None
    timesteps: Annotated[tuple[Timestep, ...], Meta(min_length=1, max_length=1000)] | None = None
    vae: Literal["full", "tiny"] | None = None
    profile: Literal["exact", "native", "balanced", "fast"] | None = None


class Manifest(Struct):
    """files: their names, with "/" between folders, and what they were."""

    files: dict[str, FileFacts] = field(default_factory=dict)
    source: Source | None = None
    recommended: Settings | None = None

    @classmethod
    def of(cls, folder: Path, content: Mapping[str, Any]) -> "Manifest":
        """From the content of a folder's pleinair.json; BundleError names what of it is wrong."""
        file = folder / FILE
        manifest = conform(content, cls, file, "convert it anew, or delete the file")
        for name in manifest.files:
            parts = PurePosixPath(name).parts
            if not parts or ".." in parts or "\0" in name or PureWindowsPath(name).anchor:
                raise BundleError(f"{file}: lists {shown(name)}, outside its folder; convert anew")
        return manifest

    def check(self, folder: Path) -> None:
        """Compare the folder with it as far as that takes no time: small files are read whole, of
        large ones size and head are compared.

        Settings that were edited are taken, and said in one line. Raises BundleError for any other
        file that is missing or differs.
        """
        edited = []
        for name, facts in self.files.items():
            file = folder / name
            if not present(file):
                raise BundleError(f"{file}: missing, though {FILE} lists it; convert anew")
            if _EDITABLE.fullmatch(name):
                if file.stat().st_size > _SMALL or sha256(file) != facts.sha256:
                    edited.append(name)
                continue
            if (size := file.stat().st_size) != facts.bytes:
                raise BundleError(
                    f"{file}: {size:,} bytes where {FILE} says {facts.bytes:,}; "
                    "copy or convert it anew"
                )
            if size <= _SMALL:
                same = sha256(file) == facts.sha256
            else:
                same = facts.head in (None, sha256(file, HEAD))
            if not same:
                raise _other(file)
        if edited:
            _tell(f"{folder}: edited since it was converted, and taken so: {', '.join(edited)}")

    def verify(self, folder: Path, tell: Callable[[str, int], object] | None = None) -> list[str]:
        """Read every file and compare it; returns the settings that were edited.

        tell: hears of a file, and of how many bytes more of it have been read.
        Raises BundleError, naming the first other file that is missing or differs.
        """
        edited = []
        for name, facts in self.files.items():
            if not present(folder / name):
                raise BundleError(f"{folder / name}: missing, though {FILE} lists it; convert anew")
            heard = functools.partial(tell, name) if tell else None
            if sha256(folder / name, tell=heard) == facts.sha256:
                continue
            if not _EDITABLE.fullmatch(name):
                raise _other(folder / name)
            edited.append(name)
        return edited


def describe(file: Path, digest: str | None = None) -> dict[str, Any]:
    """What `files` says of a file. digest: its sha256, where that is known."""
    size = file.stat().st_size
    facts = {"bytes": size, "sha256": digest or sha256(file)}
    return facts if size <= _SMALL else {**facts, "head": sha256(file, HEAD)}


def sha256(file: Path, most: int | None = None, tell: Callable[[int], object] | None = None) -> str:
    """Of a file, or of its first bytes; BundleError where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with file.open("rb") as opened:
            while block := opened.read(1 << 20 if most is None else most):
                digest.update(block)
                if tell:
                    tell(len(block))
                if most is not None:
                    break
    except OSError as error:
        raise BundleError(f"{file}: cannot be read ({error.strerror}); copy it anew") from error
    return digest.hexdigest()


def _other(file: Path) -> BundleError:
    return BundleError(f"{file}: its content is not what was exported; copy or convert it anew")


@functools.cache
def _tell(line: str) -> None:
    """Log a line, once a process."""
    log.info(line)
