"""Where a checkpoint comes from: a diffusers folder, a hub id, one file of the original layout."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pleinair.runtime.errors import SourceError

from .architecture import CLASSES, OPTIONAL
from .weights import State, find_weights, read_weights

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class Checkpoint(Protocol):
    """What an export needs to know of a checkpoint, wherever it lies."""

    record: dict[str, Any]
    """For the manifest: kind, name and, for the hub, revision."""

    def model_index(self) -> dict[str, Any]: ...

    def preprocessor(self) -> dict[str, Any] | None:
        """How a picture is made ready for the safety checker; None where there is none."""

    def scheduler(self) -> dict[str, Any]: ...

    def config(self, submodel: str) -> dict[str, Any]: ...

    def weights(self, submodel: str) -> State: ...

    def write_tokenizer(self, target: Path) -> None:
        """Put the source's tokenizer files, at least vocab.json and merges.txt, into `target`."""


def open_checkpoint(
    source: str | Path, revision: str | None = None, safety_checker: bool = True
) -> Checkpoint:
    """Find `source`, fetching it first when it is a hub id; without its safety checker if told so.

    Raises `SourceError` when it is none of the three kinds, or cannot be fetched or read.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return DiffusersFolder(path, {"kind": "folder", "name": path.resolve().name})
    if path.is_file():
        from .single_file import SingleFile

        return SingleFile(path)
    if is_hub_id(source) and path.suffix not in {".safetensors", ".ckpt"}:
        from . import hub

        wanted = hub.needed if safety_checker else hub.needed_without_checker
        folder, commit = hub.fetch(str(source), revision, wanted)
        return DiffusersFolder(folder, {"kind": "hub", "name": str(source), "revision": commit})
    raise SourceError(
        f"{source} is neither a diffusers folder, nor a .safetensors or .ckpt file, nor a hub id "
        "like owner/name"
    )


def is_hub_id(source: str | Path) -> bool:
    return bool(_HUB_ID.fullmatch(str(source)))


@dataclass
class DiffusersFolder:
    """A folder as `DiffusionPipeline.save_pretrained` writes it."""

    folder: Path
    record: dict[str, Any]

    def model_index(self) -> dict[str, Any]:
        index = read_json(self.folder / "model_index.json")
        for submodel, wanted in CLASSES.items():
            found = (index.get(submodel) or [None, None])[1]
            if found != wanted:
                raise SourceError(
                    f"{self.folder}: {submodel} is a {found}, and only {wanted} can be exported"
                )
        more = sorted(
            name
            for name, value in index.items()
            if name in {"text_encoder_2", "transformer", "controlnet", "image_encoder"}
            and value != [None, None]
        )
        if more:
            raise SourceError(
                f"{self.folder}: a {index.get('_class_name')} with {', '.join(more)} cannot be "
                "exported; Stable Diffusion 1 and 2 can"
            )
        return index

    def preprocessor(self) -> dict[str, Any] | None:
        found = (self.model_index().get("safety_checker") or [None, None])[1]
        if found is None:
            return None
        if found != OPTIONAL["safety_checker"] or not (self.folder / "safety_checker").is_dir():
            what = "is not there" if found == OPTIONAL["safety_checker"] else "cannot be exported"
            raise SourceError(
                f"{self.folder}: its safety checker, a {found}, {what}; "
                "bring it, or do without by --no-safety-checker"
            )
        return read_json(self.folder / "feature_extractor" / "preprocessor_config.json")

    def scheduler(self) -> dict[str, Any]:
        return read_json(self.folder / "scheduler" / "scheduler_config.json")

    def config(self, submodel: str) -> dict[str, Any]:
        return read_json(self.folder / submodel / "config.json")

    def weights(self, submodel: str) -> State:
        return read_weights(find_weights(self.folder / submodel))

    def write_tokenizer(self, target: Path) -> None:
        from .tokenizer import copy

        copy(self.folder / "tokenizer", target)


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
