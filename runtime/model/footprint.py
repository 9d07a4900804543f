"""What a compiled graph takes of memory: estimates, for `max_memory`.

Of each kind of part, measured on Stable Diffusion 1's shape at 512x512 (docs/decisions/0024): meant
to err by a little too much.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..engines.protocol import Shapes
from ..errors import SettingError
from ..graphs import onnx_weights
from ..graphs.cut import Cut
from .bundle import Bundle

# In weights, while it is compiled (by ONNX Runtime they are there as stored and widened), and then.
_COMPILING, _COMPILED = {"openvino": 1.0, "onnxruntime": 1.8}, 1.1
_GRAPH = 64 << 20  # the graph itself, generated code
# How many feature maps as large as the largest are held at once: engine -> UNet, VAE.
_HELD = {"openvino": (30, 3), "onnxruntime": (30, 4)}
# And how many matrices of attention's scores, of a head each; OpenVINO computes them in blocks.
_SCORES = {"openvino": 0, "onnxruntime": 16}
_OTHER = 16 << 20  # of text encoders and the safety checker, whose pictures are small

_UNITS = {"": 1, **{f"{prefix}b": 1000**i for i, prefix in enumerate("kmg", 1)}}
_UNITS |= {f"{prefix}ib": 1024**i for i, prefix in enumerate("kmg", 1)}


def bytes_of(text: str | int | None) -> int | None:
    """ "2GB", "1.5 GiB", "800MB" or a number of bytes, as that number; SettingError for others."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+\.?\d*) ?([a-z]*)", str(text).strip().lower())
    if found is None or found[2] not in _UNITS or float(found[1]) <= 0:
        raise SettingError(f"max_memory is {text!r}; give a size such as 2GB or 1.5GB")
    return int(float(found[1]) * _UNITS[found[2]])


def footprint(
    path: Path,
    engine: str,
    bundle: Bundle,
    part: str,
    shapes: Shapes,
    cut: Cut | None = None,
    changed: bool = False,
) -> int:
    """Bytes that the graph of a part in the file at `path` takes at most.

    part: as in `Bundle.graphs`, or a ControlNet's. shapes: of its inputs, by our names.
    cut: of a UNet's shallow part there are the weights above the cut alone.
    changed: by LoRA files: the new ones are held as they would be stored, and as they are packed.
    """
    packed = weights(path)
    if cut and cut.shallow:
        levels = bundle.skip_connections or 1
        packed = packed * (cut.branch + 1) // levels  # the uppermost are the smallest
    if changed:
        packed += packed // 2
    working = _working(engine, bundle, part, shapes)
    return _GRAPH + int(max(_COMPILING[engine] * packed, _COMPILED * packed + working))


def weights(path: Path) -> int:
    """Bytes of a graph's weights as CPUs compute with them: half precision is widened."""
    if path.suffix == ".onnx":
        return onnx_weights.widened_bytes(path)
    text = path.read_text(encoding="utf-8", errors="replace")
    found = re.findall(r'<data\b[^>]*?element_type="(\w+)"[^>]*?\bsize="(\d+)"', text)
    return sum(int(size) * (2 if kind in ("f16", "bf16") else 1) for kind, size in found)


def _working(engine: str, bundle: Bundle, part: str, shapes: Shapes) -> int:
    of_unet, of_vae = _HELD[engine]
    cells = {name: math.prod((shape[0], *shape[2:])) for name, shape in shapes.items()}
    if part.startswith(("unet", "controlnet")):
        maps = of_unet * cells["sample"] * _width(bundle.unet_config, 0, 320)
        return 4 * (maps + _SCORES[engine] * _attention(bundle.unet_config, shapes["sample"]))
    if part == "vae_encoder":
        return 4 * of_vae * cells["sample"] * _width(bundle.vae_config, 0, 128)
    if part.startswith("vae_decoder"):
        pixels = cells["latent_sample"] * bundle.vae_scale_factor * bundle.vae_scale_factor
        tiny = part == "vae_decoder_tiny"
        return 4 * of_vae * pixels * (64 if tiny else _width(bundle.vae_config, 1, 256))
    return _OTHER


def _attention(config: Mapping[str, Any], sample: Sequence[int]) -> int:
    """Scores of one head where attention is largest: each cell's with each."""
    blocks = config.get("down_block_types", ())
    level = next((i for i, block in enumerate(blocks) if "CrossAttn" in block), 0)
    cells = math.prod(sample[2:]) >> 2 * level
    return sample[0] * cells * cells


def _width(config: Mapping[str, Any], level: int, default: int) -> int:
    """Channels of a level's feature maps."""
    widths = config.get("block_out_channels", [default] * (level + 1))
    return int(widths[min(level, len(widths) - 1)])
