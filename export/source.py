"""Where a checkpoint comes from: a diffusers folder, a hub id, one file of the original layout."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pleinair.runtime.errors import SourceError

from .architecture import classes
from .weights import State, find_weights, read_weights

# What ControlNets of Stable Diffusion XL have, and those of 1 and 2 have not.
_OTHER_CONTROLNETS = ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class Checkpoint(Protocol):
    """What an export needs to know of a checkpoint, wherever it lies."""

    record: dict[str, Any]
    """For the manifest: kind, name and, for the hub, revision."""

    def model_index(self) -> dict[str, Any]: ...

    def scheduler(self) -> dict[str, Any]: ...

    def config(self, submodel: str) -> dict[str, Any]: ...

    def weights(self, submodel: str) -> State: ...

    def write_tokenizer(self, target: Path) -> None:
        """Put the source's tokenizer files, at least vocab.json and merges.txt, into `target`.

        The last part of `target` says which one: "tokenizer", for XL also "tokenizer_2".
        """


def open_checkpoint(
    source: str | Path, revision: str | None = None
) -> "Checkpoint | ControlNetFolder":
    """Find `source`, fetching it first when it is a hub id.

    Raises `SourceError` when it is none of the three kinds, or cannot be fetched or read.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return _folder(path, {"kind": "folder", "name": path.resolve().name})
    if path.is_file():
        from .single_file import SingleFile

        return SingleFile(path)
    if _HUB_ID.fullmatch(str(source)) and path.suffix not in {".safetensors", ".ckpt"}:
        from .hub import fetch

        folder, commit = fetch(str(source), revision)
        return _folder(folder, {"kind": "hub", "name": str(source), "revision": commit})
    raise SourceError(
        f"{source} is neither a diffusers folder, nor a .safetensors or .ckpt file, nor a hub id "
        "like owner/name"
    )


def _folder(path: Path, record: dict[str, Any]) -> "DiffusersFolder | ControlNetFolder":
    """A pipeline's folder has an index, a single model's only its config."""
    alone = (path / "config.json").is_file() and not (path / "model_index.json").is_file()
    return ControlNetFolder(path, record) if alone else DiffusersFolder(path, record)


@dataclass
class DiffusersFolder:
    """A folder as `DiffusionPipeline.save_pretrained` writes it."""

    folder: Path
    record: dict[str, Any]

    def model_index(self) -> dict[str, Any]:
        index = read_json(self.folder / "model_index.json")
        expected = classes(index)
        for submodel, wanted in expected.items():
            found = (index.get(submodel) or [None, None])[1]
            if found != wanted:
                raise SourceError(
                    f"{self.folder}: {submodel} is a {found}, and only {wanted} can be exported"
                )
        more = sorted(
            name
            for name, value in index.items()
            if name in {"text_encoder_2", "transformer", "controlnet", "image_encoder"}
            and name not in expected
            and value != [None, None]
        )
        if more:
            raise SourceError(
                f"{self.folder}: a {index.get('_class_name')} with {', '.join(more)} cannot be "
                "exported; Stable Diffusion 1, 2 and XL can"
            )
        return index

    def scheduler(self) -> dict[str, Any]:
        return read_json(self.folder / "scheduler" / "scheduler_config.json")

    def config(self, submodel: str) -> dict[str, Any]:
        return read_json(self.folder / submodel / "config.json")

    def weights(self, submodel: str) -> State:
        return read_weights(find_weights(self.folder / submodel))

    def write_tokenizer(self, target: Path) -> None:
        from .tokenizer import copy

        copy(self.folder / target.name, target)


@dataclass
class ControlNetFolder:
    """A folder as `ControlNetModel.save_pretrained` writes it."""

    folder: Path
    record: dict[str, Any]

    def config(self) -> dict[str, Any]:
        """Raises `SourceError` where it is of a kind that the runtime cannot paint with."""
        config = read_json(self.folder / "config.json")
        if config.get("_class_name") != "ControlNetModel":
            kind = config.get("_class_name", "nameless model")
            raise SourceError(
                f"{self.folder}: a {kind} by itself; whole checkpoints and ControlNets can be "
                "exported"
            )
        others = [name for name in _OTHER_CONTROLNETS if config.get(name) is not None]
        if others:
            raise SourceError(
                f"{self.folder}: a ControlNet with {', '.join(others)} is of no Stable Diffusion 1 "
                "or 2 and cannot be exported"
            )
        if config.get("conditioning_channels", 3) != 3:
            raise SourceError(
                f"{self.folder}: wants pictures of {config['conditioning_channels']} channels; "
                "only ControlNets for RGB pictures can be exported"
            )
        return config

    def weights(self) -> State:
        return read_weights(find_weights(self.folder))


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SourceError(f"{path} is missing; is this a whole diffusers folder?") from error
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(content, dict):
        raise SourceError(f"{path} holds no JSON object")
    return content
