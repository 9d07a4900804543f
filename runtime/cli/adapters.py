"""LoRA and embedding files that a prompt or a picture's file names, and where they are found."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..adapters.content import SUFFIXES
from ..errors import PromptError, SettingError
from ..model import catalog
from ..record.adapters import is_recorded, roots
from ..record.metadata import shown
from ..text.networks import loras_named

_FOLDERS = ("loras", "embeddings")

Weighed = tuple[tuple[Path, float], ...]
"""LoRA files, each with its weight."""


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

    Raises SettingError, naming all that are not here or are other files of that name: without them
    it would be another picture.
    """
    folder, gone = options.lora_dir, []
    typed = options.prompt is not None and bool(loras_named(options.prompt)[1])
    for entry in stated.get("loras", ()) if not (options.lora or typed) else ():
        if path := _same(entry, folder):
            options.lora = [*options.lora, f"{path}:{entry['weight']}"]
        else:
            tag = f"<lora:{shown(entry['name'])}:{entry['weight']:g}>"
            gone.append(_gone(tag, entry, folder))
    for entry in stated.get("embeddings", ()) if not options.embedding else ():
        if path := _same(entry, folder):
            options.embedding = [*options.embedding, f"{path}:{entry['word']}"]
        else:
            gone.append(_gone(f"embedding {shown(entry['word'])}", entry, folder))
    if gone:
        raise SettingError(
            f"{options.params_from}: painted with {', '.join(gone)}, looked for in "
            f"{_places(folder)}; put the files there, give --lora-dir, or others by --lora and "
            "--embedding"
        )


def _same(entry: Mapping[str, Any], folder: Path | None) -> Path | None:
    """The file that an entry says, where its content is, too: first where it lay, then by name."""
    there = (root / entry["path"] for root in roots(folder) if "path" in entry)
    named = (path for path in _files(folder) if path.stem == entry["name"])
    return next(
        (path for path in (*there, *named) if path.is_file() and is_recorded(path, entry)),
        None,
    )


def _gone(what: str, entry: Mapping[str, Any], folder: Path | None) -> str:
    why = "not there" if find(entry["name"], folder) is None else "another file of that name"
    return f"{what} ({why})"


def _files(folder: Path | None) -> Iterator[Path]:
    for root in _looked_in(folder):
        for path in sorted(root.rglob("*")):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                yield path


def _looked_in(folder: Path | None) -> Sequence[Path]:
    if folder is not None:
        return [folder]
    return [models / name for models in catalog.folders() for name in _FOLDERS]


def _places(folder: Path | None) -> str:
    return str(folder if folder is not None else Path("models") / _FOLDERS[0])
