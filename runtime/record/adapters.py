"""LoRA and embedding files: what a picture's file says of them, and whether a file is that one."""

import contextlib
import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..adapters.inversion import Embedding
from ..adapters.lora import Lora
from ..model import catalog

# webui tells files apart by this many digits.
_SHORT = 12


def lora_record(file: Lora, folder: Path | None = None) -> dict[str, Any]:
    """folder: one beside the models' in which `path` is looked for again."""
    known = _digests(file.path)
    if known:
        known = {"sha256": known["sha256"], "hash": known["tensors"][:_SHORT]}
    return {"name": file.path.stem, "weight": file.weight, **known, **_place(file.path, folder)}


def embedding_record(file: Embedding, folder: Path | None = None) -> dict[str, Any]:
    known = {name: digest for name, digest in _digests(file.path).items() if name == "sha256"}
    return {"name": file.path.stem, "word": file.word, **known, **_place(file.path, folder)}


def roots(folder: Path | None) -> Sequence[Path]:
    """The folders inside which a record's `path` is followed."""
    return [*([folder] if folder is not None else []), *catalog.folders()]


def is_recorded(path: Path, entry: Mapping[str, Any]) -> bool:
    """Whether a file has the digest that is said: of its tensors or of all of it, or a beginning.

    What is too short for a digest, or said in another way, tells nothing.
    """
    digests = _digests(path)
    known = [entry[key].lower() for key in ("sha256", "hash") if key in entry]
    known = [digest for digest in known if re.fullmatch(r"[0-9a-f]{8,64}", digest)]
    return not known or any(
        whole.startswith(digest) for digest in known for whole in digests.values()
    )


def _place(path: Path, folder: Path | None) -> dict[str, str]:
    """Where the file lies in the folders that are looked in; of other places nothing is told."""
    for root in roots(folder):
        with contextlib.suppress(ValueError):
            return {"path": path.resolve().relative_to(root.resolve()).as_posix()}
    return {}


def _digests(path: Path) -> Mapping[str, str]:
    """`sha256` of a file, and of its `tensors`, by which webui and the sites around it know it.

    That one leaves out the header, in which tools keep notes that change. Of a file that is gone
    since it was read there is nothing to tell.
    """
    try:
        state = path.stat()
        return _digested(path, state.st_size, state.st_mtime_ns)
    except OSError:
        return {}


@functools.lru_cache(maxsize=64)
def _digested(path: Path, size: int, changed: int) -> Mapping[str, str]:
    content, tensors = hashlib.sha256(), hashlib.sha256()
    with path.open("rb") as file:
        start = file.read(8)
        header = start + file.read(min(int.from_bytes(start, "little"), size))
        content.update(header)
        while block := file.read(1 << 20):
            content.update(block)
            tensors.update(block)
    return {"sha256": content.hexdigest(), "tensors": tensors.hexdigest()}
