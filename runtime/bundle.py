"""A model folder, found, validated and described: the only reader of its layout.

Four layouts hold the same four graphs:

- optimum's (ours too): `unet/openvino_model.xml` + `.bin`, or `unet/model.onnx`, `vae_decoder/` …;
- the older ONNX folders of diffusers: the same folders, without `config.json` in them;
- bes-dev's flat repository: `unet.xml`, `vae_decoder.xml` … side by side, with names of their own.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import BundleError

PARTS = ("text_encoder", "unet", "vae_decoder", "vae_encoder")
# What a UNet paints from, told by how many channels it takes beside the latents.
TEXT, INPAINTING, INSTRUCTION = "text", "inpainting", "instruction"
# Painting from text needs no encoder of pictures: a folder may come without one.
_OPTIONAL = {"vae_encoder"}
# Graphs of ours, beside those that everybody has.
_BESIDE = ("safety_checker", "vae_decoder_tiny")

GRAPH_FILES = {"openvino": "openvino_model.xml", "onnx": "model.onnx"}
EXPORT_HINT = "make it with: pleinair-export SOURCE FOLDER --format {format}"

# What bes-dev's graphs call the inputs that everybody else names as on the left.
_FLAT_INPUTS = {
    "text_encoder": {"input_ids": "tokens"},
    "unet": {"sample": "latent_model_input", "timestep": "t"},
    "vae_decoder": {"latent_sample": "latents"},
    "vae_encoder": {"sample": "init_image"},
}
# His graphs are Stable Diffusion v1.4's, whose configuration is not beside them.
_SD1_SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}
_SD1_SCALING = 0.18215


@dataclass(frozen=True)
class Bundle:
    """What the pipeline needs to know of a model folder.

    graphs: format ("openvino", "onnx") -> part -> file.
    input_names: part -> our input name -> the graph's own, where they differ.
    latent_channels: channels of the latents, 4 for Stable Diffusion 1 and 2.
    vae_scale_factor: pixels a latent cell spans along one side, 8 for Stable Diffusion.
    scaling_factor: the decoder is given latents / scaling_factor.
    encoding_factor: latents are what the encoder gives * encoding_factor; the same number, but
        for a decoder that divides by it inside.
    sample_size: the side of the latents that the model was trained on.
    unet_channels: channels that the UNet takes: the latents', and of what it sees beside them.
    tiny_scaling_factor: the tiny decoder, where there is one, is given latents / that.
    safety_checker: its config, with the thresholds; empty where there is none.
    preprocessor: how a picture is made ready for the safety checker.
    """

    path: Path
    graphs: Mapping[str, Mapping[str, Path]]
    tokenizer: Path
    scheduler: Mapping[str, Any]
    manifest: Mapping[str, Any] = field(default_factory=dict)
    input_names: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    latent_channels: int = 4
    vae_scale_factor: int = 8
    scaling_factor: float = _SD1_SCALING
    encoding_factor: float = _SD1_SCALING
    sample_size: int = 64
    unet_channels: int = 4
    tiny_scaling_factor: float = 1.0
    safety_checker: Mapping[str, Any] = field(default_factory=dict)
    preprocessor: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @classmethod
    def open(cls, path: str | Path, tokenizer: str | Path | None = None) -> "Bundle":
        """Read and check the folder at `path`.

        tokenizer: another folder with the tokenizer's files, for folders that lack them.
        Raises BundleError, naming the file, where one is missing, truncated or mismatched.
        """
        path = Path(path)
        if not path.is_dir():
            raise BundleError(
                f"{path}: no such model folder; give the path of a converted model, "
                "or see the known ones with: pleinair models"
            )
        reader = _open_flat if (path / "unet.xml").is_file() else _open_parts
        bundle = reader(path, Path(tokenizer) if tokenizer else None)
        _check_sizes(bundle)
        return bundle

    def verify(self) -> None:
        """Compare the files with the manifest's sha256; BundleError names the first bad one."""
        for name, facts in self.manifest.get("files", {}).items():
            digest = hashlib.sha256()
            with (self.path / name).open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
            if digest.hexdigest() != facts["sha256"]:
                raise BundleError(
                    f"{self.path / name}: its content is not what was exported; "
                    "copy or convert it anew"
                )

    @property
    def task(self) -> str:
        """What the UNet paints from: TEXT, INPAINTING or INSTRUCTION."""
        return _tasks(self.latent_channels)[self.unet_channels]

    def has(self, part: str) -> bool:
        """Whether there is a graph of that name, in any format."""
        return any(part in parts for parts in self.graphs.values())

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int, int]:
        """The latents of one picture of that many pixels, (1, channels, rows, columns)."""
        factor = self.vae_scale_factor
        return (1, self.latent_channels, height // factor, width // factor)

    def graph(self, part: str, format: str) -> Path:
        """The file of one part in one format; raises BundleError where the folder lacks it."""
        try:
            return self.graphs[format][part]
        except KeyError:
            raise BundleError(
                f"{self.path}: holds no {part} as {format}; {EXPORT_HINT.format(format=format)}"
            ) from None


def _open_parts(path: Path, tokenizer: Path | None) -> Bundle:
    index = read_json(path / "model_index.json", "this is no model folder; convert a checkpoint")
    _refuse_other_kinds(path, str(index.get("_class_name", "")))
    graphs = {format: _find_graphs(path, file) for format, file in GRAPH_FILES.items()}
    graphs = {format: parts for format, parts in graphs.items() if parts}
    if not graphs:
        raise BundleError(
            f"{path}: a checkpoint, not a converted model; convert it with: "
            f"pleinair-export {path} FOLDER"
        )
    for format, parts in graphs.items():
        _require_all(path, parts)
        parts.update(_find_graphs(path, GRAPH_FILES[format], _BESIDE))
    unet = read_json(path / "unet" / "config.json", optional=True)
    decoder = read_json(path / "vae_decoder" / "config.json", optional=True)
    text = read_json(path / "text_encoder" / "config.json", optional=True)
    _check_match(path, unet, text, decoder)
    levels = len(decoder.get("block_out_channels", [0] * 4))
    latent_channels = decoder.get("latent_channels", 4)
    scaling_factor = decoder.get("scaling_factor", _SD1_SCALING)
    size = unet.get("sample_size", 64)
    return Bundle(
        path,
        graphs,
        tokenizer or path / "tokenizer",
        read_json(path / "scheduler" / "scheduler_config.json", "copy it from the checkpoint"),
        read_json(path / "pleinair.json", optional=True),
        latent_channels=latent_channels,
        vae_scale_factor=2 ** (levels - 1),
        scaling_factor=scaling_factor,
        encoding_factor=scaling_factor,
        sample_size=size if isinstance(size, int) else max(size),
        unet_channels=unet.get("in_channels", latent_channels),
        tiny_scaling_factor=_facts(path, "vae_decoder_tiny").get("scaling_factor", 1.0),
        safety_checker=_facts(path, "safety_checker"),
        preprocessor=_facts(path, "feature_extractor", "preprocessor_config.json"),
    )


def _open_flat(path: Path, tokenizer: Path | None) -> Bundle:
    graphs = {part: path / f"{part}.xml" for part in PARTS}
    graphs = {part: file for part, file in graphs.items() if file.is_file()}
    _require_all(path, graphs)
    beside = path / "tokenizer"
    return Bundle(
        path,
        {"openvino": graphs},
        tokenizer or (beside if beside.is_dir() else path),
        _SD1_SCHEDULER,
        input_names=_FLAT_INPUTS,
        scaling_factor=1.0,  # his decoder divides by it inside the graph
    )


def _find_graphs(path: Path, file: str, names: Sequence[str] = PARTS) -> dict[str, Path]:
    return {part: path / part / file for part in names if (path / part / file).is_file()}


def _facts(path: Path, folder: str, file: str = "config.json") -> dict[str, Any]:
    return read_json(path / folder / file, optional=True)


def _require_all(path: Path, graphs: Mapping[str, Path]) -> None:
    suffix = next(iter(graphs.values())).suffix if graphs else ".xml"
    for part in PARTS:
        if part not in graphs and part not in _OPTIONAL:
            raise BundleError(
                f"{path}: the {part} graph ({suffix}) is missing; copy it there or convert anew"
            )
    for file in graphs.values():
        weights = file.with_suffix(".bin")
        if suffix == ".xml" and not weights.is_file():
            raise BundleError(f"{weights}: missing beside {file.name}; copy it there")


def _refuse_other_kinds(path: Path, kind: str) -> None:
    """Only pipelines of Stable Diffusion's own shape can be painted with."""
    family = "(LatentConsistencyModel|StableDiffusion)"
    task = "(Img2Img|Inpaint|InpaintLegacy|InstructPix2Pix|)"
    if not re.fullmatch(f"(OV|ORT|Onnx|){family}{task}Pipeline", kind):
        raise BundleError(
            f"{path / 'model_index.json'}: a {kind or 'nameless'} model; "
            "only StableDiffusionPipeline models can be opened, and those for image to image, "
            "inpainting and InstructPix2Pix"
        )


def _tasks(latent_channels: int) -> dict[int, str]:
    """Channels of a UNet -> task: beside the latents nothing, mask and picture, or a picture."""
    return {
        latent_channels: TEXT,
        2 * latent_channels + 1: INPAINTING,
        2 * latent_channels: INSTRUCTION,
    }


def _check_match(path: Path, unet: Any, text: Any, decoder: Any) -> None:
    latent_channels = decoder.get("latent_channels", 4)
    known = _tasks(latent_channels)
    if unet.get("in_channels", latent_channels) not in known:
        raise BundleError(
            f"{path / 'unet'}: takes {unet['in_channels']} channels, the VAE has "
            f"{latent_channels}; only UNets of {', '.join(map(str, known))} channels can be "
            "painted with: ordinary, inpainting, editing by instruction"
        )
    width = text.get("hidden_size", unet.get("cross_attention_dim"))
    if unet and text and unet.get("cross_attention_dim", width) != width:
        raise BundleError(
            f"{path}: mismatched parts: the UNet attends to {unet['cross_attention_dim']} values "
            f"a token, the text encoder gives {width}; take all parts from one model"
        )
    if unet.get("time_cond_proj_dim") is not None:
        raise BundleError(
            f"{path / 'unet'}: takes a guidance embedding (time_cond_proj_dim), "
            "which is not supported yet; use the model with LCM-LoRA merged instead"
        )


def _check_sizes(bundle: Bundle) -> None:
    """Truncated files are found before an engine trips over them."""
    for name, facts in bundle.manifest.get("files", {}).items():
        file = bundle.path / name
        if not file.is_file():
            raise BundleError(f"{file}: missing, though pleinair.json lists it; convert anew")
        if file.stat().st_size != facts["bytes"]:
            raise BundleError(
                f"{file}: {file.stat().st_size:,} bytes where pleinair.json says "
                f"{facts['bytes']:,}; copy or convert it anew"
            )
    for file in bundle.graphs.get("openvino", {}).values():
        _check_weights(file)


def _check_weights(graph: Path) -> None:
    """Every constant of an OpenVINO graph must lie inside its weights file."""
    text = graph.read_text(encoding="utf-8", errors="replace")
    if not text.rstrip().endswith("</net>"):
        raise BundleError(f"{graph}: truncated; copy or convert it anew")
    spans = re.finditer(r'<data\b[^>]*?\boffset="(\d+)"[^>]*?\bsize="(\d+)"', text)
    needed = max((int(span[1]) + int(span[2]) for span in spans), default=0)
    weights = graph.with_suffix(".bin")
    if weights.stat().st_size < needed:
        raise BundleError(
            f"{weights}: truncated: {weights.stat().st_size:,} of {needed:,} bytes; "
            "copy or convert it anew"
        )


def read_json(path: Path, hint: str = "copy it there", optional: bool = False) -> dict[str, Any]:
    """The object in a JSON file; {} where an optional one is absent; else BundleError names it."""
    if not path.is_file():
        if optional:
            return {}
        raise BundleError(f"{path}: missing; {hint}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{path}: not JSON ({error}); copy or convert it anew") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path}: not a JSON object; copy or convert it anew")
    return content
