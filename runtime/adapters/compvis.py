"""CompVis's names of a UNet's layers, under which LoRA files and single files are saved."""

import re
from collections.abc import Collection
from dataclasses import dataclass

_ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "class_embedding": "label_emb",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|\w+samplers)\.(\d+)\.(.+)")


@dataclass(frozen=True)
class Nesting:
    """How diffusers nests a UNet's blocks in levels, which CompVis numbers through.

    depth: blocks of a level on the way down, its downsampler included.
    attending: the levels on the way up that have attention.
    """

    depth: int
    attending: frozenset[int]

    @classmethod
    def of(cls, layers: Collection[str]) -> "Nesting":
        """From the names of a UNet's layers, without their ".weight"."""
        found = [match for layer in layers if (match := _BLOCK.fullmatch(layer))]
        first = {m[4] for m in found if (m[1], m[2], m[3]) == ("down", "0", "resnets")}
        up = frozenset(int(m[2]) for m in found if (m[1], m[3]) == ("up", "attentions"))
        return cls(len(first) + 1, up)

    def compvis_layer(self, layer: str) -> str:
        """CompVis's name of the layer of this name in diffusers.

        A ResNet with its attention is one block, and a downsampler one of its own, while an
        upsampler ends the block before it.
        """
        if ".resnets." in layer:
            start, _, end = layer.rpartition(".")
            layer = f"{start}.{_RESNET.get(end, end)}"
        found = _BLOCK.fullmatch(layer)
        if found is None:
            return _renamed_end(layer)
        side, level, kind, number, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
        if kind == "downsamplers":
            return f"input_blocks.{(level + 1) * self.depth}.0.op"
        if kind == "upsamplers":
            index = 1 + (level in self.attending)
            return f"output_blocks.{level * self.depth + self.depth - 1}.{index}.{rest}"
        block = level * self.depth + number + (side == "down")
        blocks = "input_blocks" if side == "down" else "output_blocks"
        return f"{blocks}.{block}.{int(kind == 'attentions')}.{rest}"


def _renamed_end(layer: str) -> str:
    for ours, theirs in _ENDS.items():
        if layer == ours or layer.startswith(f"{ours}."):
            return theirs + layer[len(ours) :]
    return layer
