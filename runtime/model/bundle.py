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

from ..errors import BundleError

PARTS = ("text_encoder", "text_encoder_2", "unet", "vae_decoder", "vae_encoder")
# What a UNet paints from, told by how many channels it takes beside the latents.
TEXT, INPAINTING, INSTRUCTION = "text", "inpainting", "instruction"
UPSCALING = "upscaling"
# Painting from text needs no encoder of pictures: a folder may come without one. Stable Diffusion
# XL alone has the second text encoder, and its refiner not the first.
_REQUIRED = ("text_encoder", "unet", "vae_decoder")
_REQUIRED_XL = ("text_encoder", "text_encoder_2", "unet", "vae_decoder")
_REQUIRED_REFINER = ("text_encoder_2", "unet", "vae_decoder")
# Graphs of ours, beside those that everybody has.
_BESIDE = ("safety_checker", "vae_decoder_tiny", "unet_int8", "vae_decoder_int8")

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
# Older folders of the x4 upscaler do not say it, and diffusers takes no other for it.
_UPSCALER_SCALING = 0.08333


@dataclass(frozen=True)
class XL:
    """What is particular to Stable Diffusion XL [Podell et al. 2023].

    aesthetic: the UNet is told a score instead of the size it paints at: the refiner.
    zero_negative: where nothing is said to steer away from, that is zeros, not the empty text.
    tokenizer_2: the second text encoder's; None for the refiner, which has just that one.
    """

    aesthetic: bool = False
    zero_negative: bool = True
    tokenizer_2: Path | None = None


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
    guidance_width: values in which the UNet is told its guidance scale (latent consistency
        models); None for those that are asked twice.
    xl: None where it is no Stable Diffusion XL.
    vae_sample_size: the side of the pictures that the VAE was trained on, in pixels.
    low_res_scheduler, max_noise_level: of an upscaler: how the small picture is noised, and the
        largest timestep of that.
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
    guidance_width: int | None = None
    xl: XL | None = None
    vae_sample_size: int = 512
    low_res_scheduler: Mapping[str, Any] = field(default_factory=dict)
    max_noise_level: int = 0
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
        check_files(path, bundle.manifest, bundle.graphs)
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
    def unet_config(self) -> Mapping[str, Any]:
        """The UNet's own config.json; empty for the layouts that have none."""
        return read_json(self.path / "unet" / "config.json", optional=True)

    @property
    def vae_config(self) -> Mapping[str, Any]:
        """The VAE's, as the UNet's."""
        return read_json(self.path / "vae_decoder" / "config.json", optional=True)

    @property
    def skip_connections(self) -> int | None:
        """How many the UNet has; None for the layouts that do not say."""
        config = self.unet_config
        if not {"block_out_channels", "layers_per_block"} <= config.keys():
            return None
        levels, layers = len(config["block_out_channels"]), config["layers_per_block"]
        # One of conv_in, one of each layer, one of each downsampler.
        return levels + (layers * levels if isinstance(layers, int) else sum(layers))

    @property
    def task(self) -> str:
        """What the UNet paints from: TEXT, INPAINTING, INSTRUCTION or UPSCALING."""
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
    kind = str(index.get("_class_name", ""))
    _refuse_other_kinds(path, kind)
    xl = _xl(path, index) if "StableDiffusionXL" in kind else None
    graphs = {format: _find_graphs(path, file) for format, file in GRAPH_FILES.items()}
    graphs = {format: parts for format, parts in graphs.items() if parts}
    if not graphs:
        raise BundleError(
            f"{path}: a checkpoint, not a converted model; convert it with: "
            f"pleinair-export {path} FOLDER"
        )
    for format, parts in graphs.items():
        _require_all(path, parts, _required(xl))
        parts.update(_find_graphs(path, GRAPH_FILES[format], _BESIDE))
    unet = read_json(path / "unet" / "config.json", optional=True)
    decoder = read_json(path / "vae_decoder" / "config.json", optional=True)
    encoders = [part for part in _required(xl) if part.startswith("text_encoder")]
    texts = [read_json(path / part / "config.json", optional=True) for part in encoders]
    _check_match(path, unet, texts, decoder)
    levels = len(decoder.get("block_out_channels", [0] * 4))
    latent_channels = decoder.get("latent_channels", 4)
    scaling_factor = decoder.get("scaling_factor", _SD1_SCALING)
    upscales = _tasks(latent_channels).get(unet.get("in_channels", 0)) == UPSCALING
    if upscales:
        scaling_factor = _UPSCALER_SCALING
    return Bundle(
        path,
        graphs,
        tokenizer or path / encoders[0].replace("text_encoder", "tokenizer"),
        read_json(path / "scheduler" / "scheduler_config.json", "copy it from the checkpoint"),
        read_json(path / "pleinair.json", optional=True),
        latent_channels=latent_channels,
        vae_scale_factor=2 ** (levels - 1),
        scaling_factor=scaling_factor,
        encoding_factor=scaling_factor,
        sample_size=_side(unet.get("sample_size", 64)),
        unet_channels=unet.get("in_channels", latent_channels),
        guidance_width=unet.get("time_cond_proj_dim"),
        xl=xl,
        vae_sample_size=_side(decoder.get("sample_size", 512)),
        tiny_scaling_factor=_facts(path, "vae_decoder_tiny").get("scaling_factor", 1.0),
        safety_checker=_facts(path, "safety_checker"),
        preprocessor=_facts(path, "feature_extractor", "preprocessor_config.json"),
        **(_noising(path, index, unet) if upscales else {}),
    )


def _xl(path: Path, index: Mapping[str, Any]) -> XL:
    alone = index.get("text_encoder") in (None, [None, None])
    return XL(
        bool(index.get("requires_aesthetics_score", False)),
        bool(index.get("force_zeros_for_empty_prompt", True)),
        None if alone else path / "tokenizer_2",
    )


def _required(xl: XL | None) -> tuple[str, ...]:
    if xl is None:
        return _REQUIRED
    return _REQUIRED_XL if xl.tokenizer_2 else _REQUIRED_REFINER


def _side(size: Any) -> int:
    return size if isinstance(size, int) else max(size)


def _noising(path: Path, index: Mapping[str, Any], unet: Mapping[str, Any]) -> dict[str, Any]:
    """How an upscaler's small picture is noised: diffusers' bound on it, and the UNet's own."""
    file = path / "low_res_scheduler" / "scheduler_config.json"
    scheduler = read_json(file, "an upscaler needs it; copy it from the checkpoint")
    known = min(unet["num_class_embeds"], scheduler.get("num_train_timesteps", 1000)) - 1
    return {
        "low_res_scheduler": scheduler,
        "max_noise_level": min(index.get("max_noise_level", 350), known),
    }


def _open_flat(path: Path, tokenizer: Path | None) -> Bundle:
    graphs = {part: path / f"{part}.xml" for part in PARTS}
    graphs = {part: file for part, file in graphs.items() if file.is_file()}
    _require_all(path, graphs, _REQUIRED)
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


def _require_all(path: Path, graphs: Mapping[str, Path], required: Sequence[str]) -> None:
    suffix = next(iter(graphs.values())).suffix if graphs else ".xml"
    for part in required:
        if part not in graphs:
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
    task = "(Img2Img|Inpaint|InpaintLegacy|InstructPix2Pix|Upscale|)"
    known = f"({family}{task}|StableDiffusionXL(Img2Img|Inpaint|))"
    if not re.fullmatch(f"(OV|ORT|Onnx|){known}Pipeline", kind):
        raise BundleError(
            f"{path / 'model_index.json'}: a {kind or 'nameless'} model; only "
            "StableDiffusionPipeline and StableDiffusionXLPipeline models can be opened, and those "
            "for image to image, inpainting, InstructPix2Pix and upscaling"
        )


def _tasks(latent_channels: int) -> dict[int, str]:
    """Channels of a UNet -> task: beside the latents nothing, mask and picture, or a picture.

    An upscaler's picture is no latents: it has the three channels of its colours.
    """
    return {
        latent_channels: TEXT,
        2 * latent_channels + 1: INPAINTING,
        2 * latent_channels: INSTRUCTION,
        latent_channels + 3: UPSCALING,
    }


def _check_match(path: Path, unet: Any, texts: Sequence[Any], decoder: Any) -> None:
    latent_channels = decoder.get("latent_channels", 4)
    known = _tasks(latent_channels)
    if unet.get("in_channels", latent_channels) not in known:
        raise BundleError(
            f"{path / 'unet'}: takes {unet['in_channels']} channels, the VAE has "
            f"{latent_channels}; only UNets of {', '.join(map(str, known))} channels can be "
            "painted with: ordinary, inpainting, editing by instruction, upscaling"
        )
    labelled = unet.get("num_class_embeds") is not None
    if unet and labelled != (known[unet.get("in_channels", latent_channels)] == UPSCALING):
        raise BundleError(
            f"{path / 'unet'}: takes {'' if labelled else 'no '}noise level (num_class_embeds), "
            "which is what upscalers do, and only they; take all parts from one model"
        )
    widths = [text["hidden_size"] for text in texts if "hidden_size" in text]
    width, wanted = sum(widths), unet.get("cross_attention_dim")
    if wanted is not None and len(widths) == len(texts) and wanted != width:
        raise BundleError(
            f"{path}: mismatched parts: the UNet attends to {wanted} values a token, the text "
            f"encoder gives {width}; take all parts from one model"
        )


def check_files(
    path: Path, manifest: Mapping[str, Any], graphs: Mapping[str, Mapping[str, Path]]
) -> None:
    """Truncated files are found before an engine trips over them.

    graphs: format -> part -> file. Raises BundleError, naming the file.
    """
    for name, facts in manifest.get("files", {}).items():
        file = path / name
        if not file.is_file():
            raise BundleError(f"{file}: missing, though pleinair.json lists it; convert anew")
        if file.stat().st_size != facts["bytes"]:
            raise BundleError(
                f"{file}: {file.stat().st_size:,} bytes where pleinair.json says "
                f"{facts['bytes']:,}; copy or convert it anew"
            )
    for file in graphs.get("openvino", {}).values():
        _check_weights(file)


def _check_weights(graph: Path) -> None:
    """Every constant of an OpenVINO graph must lie inside its weights file."""
    text = graph.read_text(encoding="utf-8", errors="replace")
    if not text.rstrip().endswith("</net>"):
        raise BundleError(f"{graph}: truncated; copy or convert it anew")
    spans = re.finditer(r'<data\b[^>]*?\boffset="(\d+)"[^>]*?\bsize="(\d+)"', text)
    needed = max((int(span[1]) + int(span[2]) for span in spans), default=0)
    weights = graph.with_suffix(".bin")
    if not weights.is_file():
        raise BundleError(f"{weights}: missing beside {graph.name}; copy it there")
    if weights.stat().st_size < needed:
        raise BundleError(
            f"{weights}: truncated: {weights.stat().st_size:,} of {needed:,} bytes; "
            "copy or convert it anew"
        )


def check_kind(path: Path) -> None:
    """Raise BundleError unless `path`, which may not be whole yet, is of a kind to paint with."""
    index = read_json(path / "model_index.json")
    _refuse_other_kinds(path, str(index.get("_class_name", "")))


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
