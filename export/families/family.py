"""What a family of models says of its checkpoints."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pleinair.runtime.errors import SourceError

from ..architecture import Config, published_config
from ..graphs.graph import Graph
from .original import Original

Configs = dict[str, Config]
"""Sub-model -> its config.json."""
Index = Mapping[str, Any]
"""What a model_index.json says."""

ABSENT: list[None] = [None, None]
"""What a model_index.json says of a component that is not there."""

# What may stand beside any family's networks, and is exported by options of its own.
_BESIDE = {"safety_checker", "feature_extractor"}


@dataclass(frozen=True)
class GraphKind:
    """One of the graphs that a sub-model gives.

    build: makes it of the loaded network.
    cost: how long it takes per parameter, next to other graphs; for the progress bar only.
    """

    build: Callable[[Any], Graph]
    cost: int = 1


@dataclass(frozen=True)
class Tokenizer:
    """The tokenizer of a text encoder.

    folder: its name in model_index.json, and in the checkpoint and the model folder.
    copy: (source, target) takes over the files of a checkpoint's.
    complete: (folder, openvino) adds what it lacks; for `openvino` with the graph of it.
    check: (folder, config, config's file) raises BundleError where its tokens are not those of the
        text encoder of this config.
    """

    folder: str
    copy: Callable[[Path, Path], None]
    complete: Callable[[Path, bool], None]
    check: Callable[[Path, Config, Path], object]


@dataclass(frozen=True)
class SubModel:
    """One network of a checkpoint, and what becomes of it.

    cls: its class by its full name, such as "diffusers.AutoencoderKL".
    graphs: name of a graph, and of its folder -> what it is.
    tokenizer: of a text encoder.
    optional: whether a checkpoint may do without it.
    published: (network, config.json) -> the config.json of its graphs.
    instead: networks of other classes that a checkpoint may have in its place.
    """

    cls: str
    graphs: Mapping[str, GraphKind]
    tokenizer: Tokenizer | None = None
    optional: bool = False
    published: Callable[[Any, Config], Config] = published_config
    instead: "tuple[SubModel, ...]" = ()

    def of_class(self, class_name: str | None) -> "SubModel":
        """Return the one that is of this class; itself where none is."""
        return next((one for one in self.instead if one.class_name == class_name), self)

    @property
    def class_names(self) -> str:
        """The classes that a checkpoint may have here, for messages."""
        return " or ".join(one.class_name for one in (self, *self.instead))

    @property
    def library(self) -> str:
        return self.cls.partition(".")[0]

    @property
    def class_name(self) -> str:
        return self.cls.rpartition(".")[2]


def accept(configs: Configs, index: Index, origin: str) -> None:
    """Find nothing wrong with the configs of a checkpoint, and nothing missing."""


@dataclass(frozen=True)
class Family:
    """One kind of model: its networks, and how a checkpoint of it is read and published.

    name: for messages, such as "Stable Diffusion XL".
    pipelines: diffusers' classes whose checkpoints these are, as `_class_name` says.
    submodels: name, and folder, of each network -> what it is, in the order of their export.
    complete: (configs, index, origin) adds to the configs, in place, what readers of the graphs
        alone need to know; raises `SourceError` for a checkpoint that the runtime could not feed.
    schedulers: folders with a scheduler_config.json, the solver's first.
    settings: what the exported model_index.json says in any case.
    originals: its kinds of single files in CompVis's layout, where there are any.
    """

    name: str
    pipelines: tuple[str, ...]
    submodels: Mapping[str, SubModel]
    complete: Callable[[Configs, Index, str], None] = accept
    schedulers: tuple[str, ...] = ("scheduler",)
    settings: Mapping[str, Any] = field(default_factory=dict)
    originals: tuple[Original, ...] = ()

    def present(self, index: Index) -> dict[str, SubModel]:
        """Return those networks that a checkpoint with this model_index.json has."""
        return {
            name: submodel.of_class(class_of(index, name))
            for name, submodel in self.submodels.items()
            if not submodel.optional or class_of(index, name) is not None
        }

    def tokenizer(self, folder: str) -> tuple[str, Tokenizer]:
        """Return the tokenizer of this folder, and the name of the text encoder it is for."""
        for name, submodel in self.submodels.items():
            if submodel.tokenizer is not None and submodel.tokenizer.folder == folder:
                return name, submodel.tokenizer
        raise KeyError(folder)

    def check(self, index: Index, origin: str) -> None:
        """Raise `SourceError` where a checkpoint has networks of other classes, or more of them."""
        present = self.present(index)
        for name, submodel in present.items():
            found = class_of(index, name)
            if found != submodel.class_name:
                raise SourceError(
                    f"{origin}: {name} is a {found}, and only {submodel.class_names} can be "
                    "exported"
                )
        tokenizers = {one.tokenizer.folder for one in present.values() if one.tokenizer}
        known = {*present, *tokenizers, *self.schedulers, *_BESIDE}
        more = sorted(name for name in index if class_of(index, name) and name not in known)
        if more:
            raise SourceError(
                f"{origin}: a {index['_class_name']} with {', '.join(more)} cannot be exported; "
                f"{self.name} has {', '.join(self.submodels)}"
            )


def class_of(index: Index, name: str) -> str | None:
    """Return the class of a component in a model_index.json; None where there is no such one."""
    match index.get(name):
        case [_, str(found)]:
            return found
    return None
