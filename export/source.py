"""What an export reads of a checkpoint, and the folders that checkpoints are saved as."""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from pleinair.runtime.errors import SourceError

from . import families
from .families.beside import SAFETY_CHECKER
from .families.family import Family, class_of
from .manifest import FILE
from .weights import State, find_weights, read_weights

# What ControlNets of Stable Diffusion XL have, and those of 1 and 2 have not.
_OTHER_CONTROLNETS = ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class Checkpoint(Protocol):
    """What an export needs to know of a checkpoint, wherever it lies."""

    record: dict[str, Any]
    """For the manifest: kind, name and, for the hub, revision."""

    def model_index(self) -> dict[str, Any]: ...

    def preprocessor(self) -> dict[str, Any] | None:
        """How a picture is made ready for the safety checker; None where there is none."""

    def scheduler(self, name: str = "scheduler") -> dict[str, Any]:
        """Return the scheduler_config.json of this folder."""

    def config(self, submodel: str) -> dict[str, Any]: ...

    def weights(self, submodel: str) -> State: ...

    def scaling_factor(self) -> float:
        """Latents are what the VAE's encoder gives times this, where the VAE does not say it."""

    def write_tokenizer(self, target: Path) -> None:
        """Put the files of one of the source's tokenizers into `target`.

        The last part of `target` says which one, as `families.family.Tokenizer.folder` does.
        """


def fetched_from(file: Path) -> dict[str, Any] | None:
    """Return what `pleinair pull` noted of a file that it fetched: hub id and commit."""
    noted = file.parent / FILE
    content = read_json(noted) if noted.is_file() else {}
    return content.get("source") if file.name in content.get("files", {}) else None


def is_hub_id(source: str | Path) -> bool:
    return bool(_HUB_ID.fullmatch(str(source)))


@dataclass
class DiffusersFolder:
    """A folder as `DiffusionPipeline.save_pretrained` writes it."""

    folder: Path
    record: dict[str, Any]

    @cached_property
    def _index(self) -> dict[str, Any]:
        return read_json(self.folder / "model_index.json")

    @cached_property
    def family(self) -> Family:
        """Raises `SourceError` where no family has such a pipeline, or such networks."""
        return families.of(self._index, str(self.folder))

    def model_index(self) -> dict[str, Any]:
        return dict(self._index)

    def preprocessor(self) -> dict[str, Any] | None:
        found = class_of(self._index, "safety_checker")
        if found is None:
            return None
        is_known = found == SAFETY_CHECKER.class_name
        if not is_known or not (self.folder / "safety_checker").is_dir():
            what = "is not there" if is_known else "cannot be exported"
            raise SourceError(
                f"{self.folder}: its safety checker, a {found}, {what}; "
                "bring it, or do without by --no-safety-checker"
            )
        return read_json(self.folder / "feature_extractor" / "preprocessor_config.json")

    def scheduler(self, name: str = "scheduler") -> dict[str, Any]:
        return read_json(self.folder / name / "scheduler_config.json")

    def config(self, submodel: str) -> dict[str, Any]:
        return read_json(self.folder / submodel / "config.json")

    def weights(self, submodel: str) -> State:
        return read_weights(find_weights(self.folder / submodel))

    def scaling_factor(self) -> float:
        config = self.folder / "vae" / "config.json"
        return read_json(config).get("scaling_factor", 0.18215) if config.is_file() else 0.18215

    def write_tokenizer(self, target: Path) -> None:
        _, tokenizer = self.family.tokenizer(target.name)
        tokenizer.copy(self.folder / target.name, target)


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
