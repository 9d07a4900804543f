"""What an adapter's file holds, in whichever format: its first bytes tell, not its name."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import AdapterError
from . import pickles, safetensors

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".pti")
"""Of the files that people keep LoRA and embeddings in, in small letters."""

_ZIP = b"PK\x03\x04"
# What people have instead, by how it begins.
_OTHERS = {
    b"\x89PNG": "a picture: embeddings inside pictures are not read; get the .pt or .safetensors",
    b"RIFF": "a picture: embeddings inside pictures are not read; get the .pt or .safetensors",
    b"\xff\xd8\xff": "a picture; give the .pt or .safetensors",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself; run git lfs pull",
    b"<!DOCTYPE": "a page of the web, not the file itself; download it anew",
    b"<html": "a page of the web, not the file itself; download it anew",
}


def is_file(path: str | Path) -> bool:
    """Whether there is a regular file; no name is too long or too odd to ask."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def read(path: Path) -> tuple[Any, Mapping[str, str]]:
    """The object in a file, a dictionary of arrays as a rule, and its metadata.

    Raises AdapterError where it is missing, of another format, damaged, or could run code.
    """
    if not is_file(path):
        found = "not a regular file" if os.path.lexists(path) else "no such file"
        raise AdapterError(f"{path}: {found}; give the path of a .safetensors or .pt file")
    try:
        with path.open("rb") as file:
            start = file.read(32)
    except OSError as error:
        raise AdapterError(f"{path}: cannot be read ({error.strerror}); copy it anew") from error
    for magic, what in _OTHERS.items():
        if start.startswith(magic):
            raise AdapterError(f"{path}: {what}")
    suffix = path.suffix.lower()
    if start.startswith(_ZIP) or (suffix in SUFFIXES[1:] and start[8:9] != b"{"):
        return pickles.read(path), {}
    return safetensors.read(path)
