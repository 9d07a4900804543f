"""What an export reads of a checkpoint, and the folders that checkpoints are saved as."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import Meta

from pleinair.runtime.errors import SourceError, shown
from pleinair.runtime.files import conform, read_json

from . import families
from .families.beside import SAFETY_CHECKER
from .families.family import Family, class_of
from .manifest import FILE
from .reading import State
from .weights import find_weights, read_weights

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

    def latents(self) -> dict[str, Any]:
        """Of the VAE's config what latents depend on, for a VAE from elsewhere that says nothing.

        The scaling_factor, and where there are any latents_mean and latents_std, or shift_factor.
        """

    def recommended(self) -> dict[str, Any] | None:
        """What the checkpoint says that it is best painted with; None where it says nothing."""

    def write_tokenizer(self, target: Path) -> None:
        """Put the files of one of the source's tokenizers into `target`.

        The last part of `target` says which one, as `families.family.Tokenizer.folder` does.
        """


class _Index(msgspec.Struct):
    """What is read of a model_index.json beside its components."""

    class_name: str | None = msgspec.field(name="_class_name", default=None)
    requires_aesthetics_score: bool | None = None
    force_zeros_for_empty_prompt: bool | None = None
    max_noise_level: Annotated[int, Meta(ge=0, le=100_000)] | None = None


class _Noted(msgspec.Struct):
    source: dict[str, Any] | None = None
    files: dict[str, Any] = msgspec.field(default_factory=dict)


def fetched_from(file: Path) -> dict[str, Any] | None:
    """Return what `pleinair pull` noted of a file that it fetched: hub id and commit."""
    noted = file.parent / FILE
    content = conform(read(noted, optional=True), _Noted, noted, error=SourceError)
    return content.source if file.name in content.files else None


def is_hub_id(source: str | Path) -> bool:
    return bool(_HUB_ID.fullmatch(str(source)))


@dataclass
class DiffusersFolder:
    """A folder as `DiffusionPipeline.save_pretrained` writes it."""

    folder: Path
    record: dict[str, Any]

    @cached_property
    def _index(self) -> dict[str, Any]:
        file = self.folder / "model_index.json"
        index = read(file)
        conform(index, _Index, file, error=SourceError)
        return index

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
        return read(self.folder / "feature_extractor" / "preprocessor_config.json")

    def scheduler(self, name: str = "scheduler") -> dict[str, Any]:
        return read(self.folder / name / "scheduler_config.json")

    def config(self, submodel: str) -> dict[str, Any]:
        return read(self.folder / submodel / "config.json")

    def weights(self, submodel: str) -> State:
        return read_weights(find_weights(self.folder / submodel))

    def latents(self) -> dict[str, Any]:
        names = ("scaling_factor", "latents_mean", "latents_std", "shift_factor")
        config = read(self.folder / "vae" / "config.json", optional=True)
        return {"scaling_factor": 0.18215} | {k: config[k] for k in names if k in config}

    def recommended(self) -> None:
        return None

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
        config = read(self.folder / "config.json")
        if config.get("_class_name") != "ControlNetModel":
            kind = shown(config.get("_class_name", "nameless model"))
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
            channels = shown(config["conditioning_channels"])
            raise SourceError(
                f"{self.folder}: wants pictures of {channels} channels; only ControlNets for RGB "
                "pictures can be exported"
            )
        return config

    def weights(self) -> State:
        return read_weights(find_weights(self.folder))


def read(path: Path, optional: bool = False) -> dict[str, Any]:
    """A JSON file of a checkpoint; {} where an optional one is absent. Raises `SourceError`."""
    hint = "is this a whole diffusers folder?"
    content: dict[str, Any] = read_json(path, hint, optional, error=SourceError)
    return content
