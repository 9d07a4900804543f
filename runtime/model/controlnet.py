"""A converted ControlNet: a folder of its own, which serves every model of its kind."""

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import msgspec

from ..errors import BundleError, SettingError, shown
from ..files import conform, present, read_json
from ..graphs.residuals import names
from ..graphs.scales import MOST, fits
from .bundle import EXPORT_HINT, GRAPH_FILES, check_files
from .configs import Count, Few, UNetConfig, Widths
from .manifest import FILE

Shape = tuple[int, int, int, int]
Named = str | Path | tuple[str | Path, float]
"""A folder, a folder with its weight, or both in one text: "FOLDER:0.8"."""

_WEIGHTED = re.compile(r"(.+):(-?\d*\.?\d+)")
_PART = "controlnet"
# What a ControlNet has in common with the UNet that it was copied from.
_SHARED = ("block_out_channels", "layers_per_block", "cross_attention_dim")
# What else it would have to be told.
_TOLD = ("class_embed_type", "num_class_embeds", "addition_embed_type", "encoder_hid_dim_type")


class ControlNetConfig(msgspec.Struct):
    """diffusers' ControlNetModel, as far as it is read.

    controlnet_conditioning_channel_order: the graph itself turns pictures round, where it is bgr.
    """

    class_name: str | None = msgspec.field(name="_class_name", default=None)
    in_channels: Count = 4
    conditioning_channels: Count = 3
    block_out_channels: Widths | None = None
    layers_per_block: Few | None = None
    cross_attention_dim: Count | None = None
    global_pool_conditions: bool | None = False
    controlnet_conditioning_channel_order: Literal["rgb", "bgr"] = "rgb"
    class_embed_type: str | None = None
    num_class_embeds: Count | None = None
    addition_embed_type: str | None = None
    encoder_hid_dim_type: str | None = None


@dataclass(frozen=True)
class ControlNet:
    """What the pipeline needs to know of a ControlNet [Zhang et al. 2023].

    graphs: format ("openvino", "onnx") -> file.
    weight: how much of it is added, times a call's controlnet_conditioning_scale.
    """

    path: Path
    graphs: Mapping[str, Path]
    config: ControlNetConfig
    weight: float = 1.0

    shared_inputs: ClassVar[tuple[str, ...]] = ("encoder_hidden_states",)
    """The inputs that it has in common with the UNet, beside sample and timestep."""

    @classmethod
    def open(cls, path: str | Path, weight: float = 1.0) -> "ControlNet":
        """Read and check the folder at `path`; BundleError says what of it is wrong."""
        path = Path(path)
        if not fits(weight):
            raise SettingError(f"{path}: its weight is no number up to {MOST:g}; give one like 0.8")
        if not os.path.isdir(path):
            raise BundleError(
                f"{path}: no such ControlNet folder; make one with: pleinair-export SOURCE {path}"
            )
        file = path / "config.json"
        config = conform(read_json(file, "this is no ControlNet's folder"), ControlNetConfig, file)
        if config.class_name != "ControlNetModel":
            kind = shown(config.class_name or "nameless model")
            raise BundleError(f"{path}: a {kind}; only a ControlNetModel can be used here")
        graphs = {form: path / file for form, file in GRAPH_FILES.items() if present(path / file)}
        if not graphs:
            raise BundleError(
                f"{path}: a checkpoint, not a converted ControlNet; convert it with: "
                f"pleinair-export {path} FOLDER"
            )
        manifest = read_json(path / FILE, optional=True)
        check_files(path, manifest, {form: {_PART: file} for form, file in graphs.items()})
        missing = [name for name in _SHARED if getattr(config, name) is None]
        if missing:
            raise BundleError(f"{file}: lacks {', '.join(missing)}; convert anew")
        if config.conditioning_channels != 3:
            raise BundleError(
                f"{path}: wants pictures of {config.conditioning_channels} channels; "
                "only ControlNets for RGB pictures can be used"
            )
        for name in _TOLD:
            if (value := getattr(config, name)) is not None:
                raise BundleError(
                    f"{file}: {name} is {shown(value)}: only ControlNets that are told a prompt "
                    "and a picture can be used"
                )
        return cls(path, graphs, config, float(weight))

    @property
    def pooled(self) -> bool:
        """It speaks of the picture as a whole: its residuals are one number a channel."""
        return bool(self.config.global_pool_conditions)

    def graph(self, format: str) -> Path:
        """The file in one format; raises BundleError where the folder lacks it."""
        if format not in self.graphs:
            raise BundleError(
                f"{self.path}: holds no ControlNet as {format}; {EXPORT_HINT.format(format=format)}"
            )
        return self.graphs[format]

    def check_fits(self, unet: UNetConfig, latent_channels: int, model: str) -> None:
        """Raises BundleError where it was made for another kind of UNet than that of `model`.

        unet: the UNet's config.json.
        """
        pairs = {name: (getattr(self.config, name), getattr(unet, name)) for name in _SHARED}
        differences = [
            f"{name} {shown(ours)} instead of {shown(theirs)}"
            for name, (ours, theirs) in pairs.items()
            if theirs is not None and ours != theirs
        ]
        channels = self.config.in_channels
        if channels != latent_channels:
            differences.append(f"{channels} channels instead of {latent_channels}")
        if differences:
            raise BundleError(
                f"{self.path}: made for another kind of model than {model}: "
                + ", ".join(differences)
            )

    def residuals(self, batch: int, rows: int, columns: int) -> dict[str, Shape]:
        """The UNet's ends for what it adds, and their shapes, for latents of that size."""
        widths, layers = self.config.block_out_channels, self.config.layers_per_block
        assert widths is not None  # checked on opening, as are the layers
        assert layers is not None
        shapes: list[Shape] = [(batch, widths[0], rows, columns)]
        for level, width in enumerate(widths):
            shapes += [(batch, width, rows, columns)] * layers
            if level < len(widths) - 1:
                rows, columns = math.ceil(rows / 2), math.ceil(columns / 2)
                shapes.append((batch, width, rows, columns))
        ends = names(len(shapes))
        return dict(zip(ends, [*shapes, shapes[-1]], strict=True))


def opened(named: Named | Sequence[Named] | None) -> list[ControlNet]:
    """One, several or none that a user names; errors as in `ControlNet.open`."""
    if named is None:
        return []
    several = [named] if isinstance(named, str | Path | tuple) else named
    return [ControlNet.open(*weighed(one)) for one in several]


def weighed(named: Named) -> tuple[Path, float]:
    """The folder and its weight."""
    if isinstance(named, tuple):
        return Path(named[0]), named[1]
    found = _WEIGHTED.fullmatch(str(named))
    # A colon may be the folder's own.
    if found is None or os.path.isdir(str(named)):
        return Path(named), 1.0
    return Path(found[1]), float(found[2])
