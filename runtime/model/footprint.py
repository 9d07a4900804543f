"""What a compiled graph takes of memory: estimates, for `max_memory`.

Of each kind of part, measured on Stable Diffusion 1's shape at 512x512 (docs/decisions/0024): meant
to err by a little too much.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import Message, SettingError, shown
from ..graphs import ir, onnx_weights

# In weights, while it is compiled (by ONNX Runtime they are there as stored and widened), and then.
_COMPILING, _COMPILED = {"openvino": 1.0, "onnxruntime": 1.8}, 1.1
_GRAPH = 64 << 20  # the graph itself, generated code
# How many feature maps as large as the largest are held at once, by engine.
_HELD = {
    "openvino": {"denoiser": 30, "vae": 3},
    "onnxruntime": {"denoiser": 30, "vae": 4},
}
# And how many matrices of attention's scores, of a head each; OpenVINO computes them in blocks.
_SCORES = {"openvino": 0, "onnxruntime": 16}
_OTHER = 16 << 20  # of text encoders and the safety checker, whose pictures are small

# Bytes of a float as a graph's file has it.
_STORED = {"f32": 4, "f16": 2, "bf16": 2}

_UNITS = {"": 1, **{f"{prefix}b": 1000**i for i, prefix in enumerate("kmg", 1)}}
_UNITS |= {f"{prefix}ib": 1024**i for i, prefix in enumerate("kmg", 1)}


def bytes_of(text: str | int | None) -> int | None:
    """ "2GB", "1.5 GiB", "800MB" or a number of bytes, as that number; SettingError for others."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+\.?\d*) ?([a-z]*)", str(text).strip().lower())
    if found is None or found[2] not in _UNITS or not 0 < float(found[1]) < 1e18:
        raise SettingError(
            Message("{max_memory} is {0!r}; give a size such as 2GB or 1.5GB", shown(text))
        )
    return int(float(found[1]) * _UNITS[found[2]])


@dataclass(frozen=True)
class Working:
    """What a graph holds while it computes, beside its weights.

    held: how many feature maps as large as the largest are there at once: "denoiser", "vae", or ""
        for text encoders and checkers, whose pictures are small.
    values: of the largest feature map. scores: of one head, where attention is largest.
    """

    held: str = ""
    values: int = 0
    scores: int = 0

    def bytes(self, engine: str) -> int:
        if not self.held:
            return _OTHER
        maps = _HELD[engine][self.held] * self.values
        return 4 * (maps + _SCORES[engine] * self.scores)


def footprint(
    path: Path,
    engine: str,
    working: Working,
    *,
    precision: str = "f32",
    streams: int = 1,
    share: float = 1.0,
    changed: float = 0.0,
) -> int:
    """Bytes that the graph in the file at `path` takes at most.

    precision: what it is computed in.
    streams: calls computed at once, each with working memory of its own.
    share: of its weights, where a cut leaves only some. changed: what those that LoRA files change
    take as they are stored, beside what they take as packed: 1 is as much.
    """
    packed = int(weights(path, precision) * share)
    packed += int(packed * changed)
    compiled = _COMPILED * packed + streams * working.bytes(engine)
    return _GRAPH + int(max(_COMPILING[engine] * packed, compiled))


def weights(path: Path, precision: str = "f32") -> int:
    """Bytes of a graph's weights as CPUs compute with them: floats are widened, or narrowed.

    An ONNX file's count as float32 in any case: ONNX Runtime has no other precision on CPUs.
    """
    if path.suffix == ".onnx":
        return onnx_weights.widened_bytes(path)
    wide = 4 if precision == "f32" else 2
    found = ir.constants(ir.read(path))
    return sum(each.size * wide // _STORED.get(each.kind, wide) for each in found)


def largest_attention(blocks: Sequence[str], sample: Sequence[int]) -> int:
    """Scores of one head of a UNet where attention is largest: each cell's with each.

    blocks: its down_block_types. sample: the shape of its input, (batch, channels, rows, columns).
    """
    level = next((i for i, block in enumerate(blocks) if "CrossAttn" in block), 0)
    cells = math.prod(sample[2:]) >> 2 * level
    return sample[0] * cells * cells


def level_width(widths: Sequence[int] | None, level: int, default: int) -> int:
    """Channels of the feature maps of a level of a UNet or VAE.

    widths: its block_out_channels; None where they are not known.
    """
    return widths[min(level, len(widths) - 1)] if widths else default
