"""LoRA and embedding files: what a picture's file says of them, and where they are found again."""

import argparse
import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..adapters.inversion import Embedding
from ..adapters.lora import Lora
from ..errors import PromptError
from ..exits import tell
from ..model import catalog
from ..record.metadata import shown
from ..text.networks import loras_named

_FOLDERS = ("loras", "embeddings")
_SUFFIXES = (".safetensors", ".pt", ".bin")
# webui tells files apart by this many digits.
_SHORT = 12

Weighed = tuple[tuple[Path, float], ...]
"""LoRA files, each with its weight."""


def lora_record(file: Lora) -> dict[str, Any]:
    digests = _digests(file.path)
    return {"name": file.path.stem, "weight": file.weight, **digests}


def embedding_record(file: Embedding) -> dict[str, Any]:
    return {"name": file.path.stem, "word": file.word, "sha256": _digests(file.path)["sha256"]}


def named_in(prompt: str, folder: Path | None) -> tuple[str, Weighed]:
    """The prompt without its `<lora:name:0.8>`, and the files that those mean.

    Raises PromptError where one is not there.
    """
    prompt, named = loras_named(prompt)
    files = []
    for name, weight in named:
        path = find(name, folder)
        if path is None:
            raise PromptError(
                f"<lora:{shown(name)}>: no {shown(name)}.safetensors in {_places(folder)}; "
                "put it there, or give --lora-dir"
            )
        files.append((path, weight))
    return prompt, tuple(files)


def find(name: str, folder: Path | None) -> Path | None:
    """The file of that name, without its suffix, in the folder; None: where models stand.

    A name is compared with those that are there and never followed: it may be a stranger's.
    """
    return next((path for path in _files(folder) if path.stem == name), None)


def restore(stated: Mapping[str, Any], options: argparse.Namespace) -> None:
    """Take up the LoRA and embedding files that a picture's file names, where none are given.

    One line says which are not here, or are other files of that name.
    """
    gone = []
    typed = options.prompt is not None and bool(loras_named(options.prompt)[1])
    if not options.lora and not typed:
        for entry in stated.get("loras", ()):
            path = _same(entry, options.lora_dir)
            if path:
                options.lora = [*options.lora, f"{path}:{entry['weight']}"]
            else:
                gone.append(f"<lora:{shown(entry['name'])}:{entry['weight']:g}>")
    if not options.embedding:
        for entry in stated.get("embeddings", ()):
            path = _same(entry, options.lora_dir)
            if path:
                options.embedding = [*options.embedding, f"{path}:{entry['word']}"]
            else:
                gone.append(f"embedding {shown(entry['word'])}")
    if gone:
        tell(
            f"painting without {', '.join(gone)}: not in {_places(options.lora_dir)}; "
            "for the same picture put the files there, or give --lora-dir",
        )


def _same(entry: Mapping[str, Any], folder: Path | None) -> Path | None:
    """The file of an entry's name, if its content is what the entry says."""
    path = find(entry["name"], folder)
    if path is None:
        return None
    digests = _digests(path)
    known = entry.get("hash"), entry.get("sha256")
    if known[0]:
        return path if known[0] in (digests["hash"], digests["sha256"][:_SHORT]) else None
    return path if known[1] in (None, digests["sha256"]) else None


def _files(folder: Path | None) -> Iterator[Path]:
    for root in _looked_in(folder):
        for path in sorted(root.rglob("*")):
            if path.suffix in _SUFFIXES and path.is_file():
                yield path


def _looked_in(folder: Path | None) -> Sequence[Path]:
    if folder is not None:
        return [folder]
    return [models / name for models in catalog.folders() for name in _FOLDERS]


def _places(folder: Path | None) -> str:
    return str(folder if folder is not None else Path("models") / _FOLDERS[0])


@functools.lru_cache(maxsize=64)
def _digests(path: Path) -> dict[str, str]:
    """`sha256` of a file; `hash`, as webui and the sites around it know a LoRA.

    That one leaves out the header, in which tools keep notes that change.
    """
    content, tensors = hashlib.sha256(), hashlib.sha256()
    with path.open("rb") as file:
        start = file.read(8)
        header = start + file.read(min(int.from_bytes(start, "little"), path.stat().st_size))
        content.update(header)
        while block := file.read(1 << 20):
            content.update(block)
            tensors.update(block)
    return {"sha256": content.hexdigest(), "hash": tensors.hexdigest()[:_SHORT]}
