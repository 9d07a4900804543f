"""A model folder as it lies on disk: its graphs and its configurations.

What they mean is for the families to say. Three layouts are read:

- optimum's (ours too): `unet/openvino_model.xml` + `.bin`, or `unet/model.onnx`, `vae_decoder/` …;
- the older ONNX folders of diffusers: the same folders, without `config.json` in them;
- bes-dev's flat repository: `unet.xml`, `vae_decoder.xml` … side by side, with names of their own.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import BundleError
from ..files import present, read_json, short_digest
from ..graphs import ir
from .manifest import FILE, Manifest

GRAPH_FILES = {"openvino": "openvino_model.xml", "onnx": "model.onnx"}
EXPORT_HINT = "make it with: pleinair-export SOURCE FOLDER --format {format}"

# bes-dev's graphs are Stable Diffusion v1.4's; what their inputs are called that everybody else
# names as on the left, and the configurations that are not beside them.
_FLAT_INPUTS = {
    "text_encoder": {"input_ids": "tokens"},
    "unet": {"sample": "latent_model_input", "timestep": "t"},
    "vae_decoder": {"latent_sample": "latents"},
    "vae_encoder": {"sample": "init_image"},
}
_FLAT_INDEX = {"_class_name": "StableDiffusionPipeline"}
_FLAT_CONFIGS = {
    "vae_encoder": {"scaling_factor": 0.18215},
    "vae_decoder": {"scaling_factor": 1.0},  # it divides by it inside the graph
}
_FLAT_SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}


@dataclass(frozen=True)
class Bundle:
    """A model folder.

    graphs: format ("openvino", "onnx") -> part -> file.
    index: the content of model_index.json.
    scheduler: the content of its scheduler_config.json.
    configs: part -> the content of its config.json, for those that have one.
    tokenizer_folder: where the tokenizer's files are, where not in the folder itself.
    manifest: the content of pleinair.json; empty where another program made the folder.
    input_names: part -> our input name -> the graph's own, where they differ.
    """

    path: Path
    graphs: Mapping[str, Mapping[str, Path]]
    index: Mapping[str, Any]
    scheduler: Mapping[str, Any]
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tokenizer_folder: Path | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)
    input_names: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @classmethod
    def open(cls, path: str | Path, tokenizer: str | Path | None = None) -> "Bundle":
        """Read and check the folder at `path`.

        tokenizer: another folder with the tokenizer's files, for folders that lack them.
        Raises BundleError, naming the file, where one is missing, truncated or unreadable.
        """
        path = Path(path)
        if not os.path.isdir(path):
            raise BundleError(
                f"{path}: no such model folder; give the path of a converted model, "
                "or see the known ones with: pleinair models"
            )
        reader = _open_flat if present(path / "unet.xml") else _open_parts
        bundle = reader(path, Path(tokenizer) if tokenizer else None)
        check_files(path, bundle.manifest, bundle.graphs)
        return bundle

    @property
    def stated(self) -> Manifest:
        """What pleinair.json says, checked."""
        return Manifest.of(self.path, self.manifest)

    def verify(self, tell: Callable[[str, int], object] | None = None) -> list[str]:
        """Compare every file with the manifest's sha256: see `Manifest.verify`."""
        return self.stated.verify(self.path, tell)

    @property
    def digest(self) -> str:
        """A few digits that are the same for the same files; empty without a manifest."""
        files = self.manifest.get("files")
        return short_digest(files) if files else ""

    def config(self, part: str) -> Mapping[str, Any]:
        """A part's config.json; empty where it has none."""
        return self.configs.get(part, {})

    def tokenizer(self, name: str = "tokenizer") -> Path:
        """The folder with the files of the tokenizer of that name."""
        return self.tokenizer_folder or self.path / name

    def read(self, file: str) -> dict[str, Any]:
        """Another JSON file of the folder's; {} where it is not there."""
        return read_json(self.path / file, optional=True)

    def has(self, part: str) -> bool:
        """Whether there is a graph of that name, in any format."""
        return any(part in parts for parts in self.graphs.values())

    def graph(self, part: str, format: str) -> Path:
        """The file of one part in one format; raises BundleError where the folder lacks it."""
        try:
            return self.graphs[format][part]
        except KeyError:
            raise BundleError(
                f"{self.path}: holds no {part} as {format}; {EXPORT_HINT.format(format=format)}"
            ) from None

    def requiring(self, parts: tuple[str, ...]) -> "Bundle":
        """The folder with those formats alone that hold any of these parts.

        Raises BundleError where one of them, in such a format, is missing.
        """
        held = {
            format: graphs
            for format, graphs in self.graphs.items()
            if not graphs.keys().isdisjoint(parts)
        }
        for graphs in (held or self.graphs).values():
            suffix = next(iter(graphs.values())).suffix
            for part in parts:
                if part not in graphs:
                    raise BundleError(
                        f"{self.path}: the {part} graph ({suffix}) is missing; "
                        "copy it there or convert anew"
                    )
        return replace(self, graphs=held)


def _open_parts(path: Path, tokenizer: Path | None) -> Bundle:
    index = read_json(path / "model_index.json", "this is no model folder; convert a checkpoint")
    graphs = {format: _parts(path, file) for format, file in GRAPH_FILES.items()}
    graphs = {format: parts for format, parts in graphs.items() if parts}
    if not graphs:
        raise BundleError(
            f"{path}: a checkpoint, not a converted model; convert it with: "
            f"pleinair-export {path} FOLDER"
        )
    parts = {part for found in graphs.values() for part in found}
    return Bundle(
        path=path,
        graphs=graphs,
        index=index,
        scheduler=read_json(
            path / "scheduler" / "scheduler_config.json", "copy it from the checkpoint"
        ),
        configs={part: read_json(path / part / "config.json", optional=True) for part in parts},
        tokenizer_folder=tokenizer,
        manifest=read_json(path / FILE, optional=True),
    )


def _open_flat(path: Path, tokenizer: Path | None) -> Bundle:
    graphs = {part: path / f"{part}.xml" for part in _FLAT_INPUTS}
    beside = path / "tokenizer"
    return Bundle(
        path=path,
        graphs={"openvino": {part: file for part, file in graphs.items() if present(file)}},
        index=_FLAT_INDEX,
        scheduler=_FLAT_SCHEDULER,
        configs=_FLAT_CONFIGS,
        tokenizer_folder=tokenizer or (beside if os.path.isdir(beside) else path),
        input_names=_FLAT_INPUTS,
    )


def _parts(path: Path, file: str) -> dict[str, Path]:
    """Part -> its graph: every folder that has one in it."""
    try:
        names = sorted(name for name in os.listdir(path) if not name.startswith("."))
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from error
    for name in names:
        if os.path.islink(path / name) and not os.path.exists(path / name):
            raise BundleError(f"{path / name}: a link that leads nowhere; copy the model anew")
    folders = [path / name for name in names if os.path.isdir(path / name)]
    return {folder.name: folder / file for folder in folders if present(folder / file)}


def check_files(
    path: Path, manifest: Mapping[str, Any], graphs: Mapping[str, Mapping[str, Path]]
) -> None:
    """Damaged files are found before an engine trips over them.

    manifest: of pleinair.json. graphs: format -> part -> file. Raises BundleError, naming the file.
    """
    Manifest.of(path, manifest).check(path)
    for file in graphs.get("openvino", {}).values():
        if not present(file.with_suffix(".bin")):
            raise BundleError(
                f"{file.with_suffix('.bin')}: missing beside {file.name}; copy it there"
            )
    for file in graphs.get("openvino", {}).values():
        _check_weights(file)


def _check_weights(graph: Path) -> None:
    """Every constant of an OpenVINO graph must lie inside its weights file."""
    text = ir.read(graph)
    if not text.rstrip().endswith(b"</net>"):
        raise BundleError(f"{graph}: truncated; copy or convert it anew")
    needed = max((constant.end for constant in ir.constants(text)), default=0)
    weights = graph.with_suffix(".bin")
    if weights.stat().st_size < needed:
        raise BundleError(
            f"{weights}: truncated: {weights.stat().st_size:,} of {needed:,} bytes; "
            "copy or convert it anew"
        )
