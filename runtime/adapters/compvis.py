"""CompVis's names of a UNet's layers, for files that were trained under them."""

import re
from collections.abc import Collection

_ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
_RESNET = {
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|\w+samplers)\.(\d+)\.(.+)")


def compvis_layer(layer: str, layers: Collection[str]) -> str:
    """CompVis's name of one of a UNet's `layers`, which are given by diffusers' names.

    diffusers nests blocks in levels; CompVis numbers them through, a ResNet with its attention
    being one, and a downsampler one of its own, while an upsampler ends the block before it.
    """
    if ".resnets." in layer:
        start, _, end = layer.rpartition(".")
        layer = f"{start}.{_RESNET.get(end, end)}"
    found = _BLOCK.fullmatch(layer)
    if found is None:
        return _renamed_end(layer)
    side, level, kind, number, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
    depth = 1 + len({name.split(".")[3] for name in layers if _FIRST_LEVEL.match(name)})
    if kind == "downsamplers":
        return f"input_blocks.{(level + 1) * depth}.0.op"
    if kind == "upsamplers":
        attends = any(name.startswith(f"up_blocks.{level}.attentions.") for name in layers)
        return f"output_blocks.{level * depth + depth - 1}.{1 + attends}.{rest}"
    block = level * depth + number + (side == "down")
    blocks = "input_blocks" if side == "down" else "output_blocks"
    return f"{blocks}.{block}.{int(kind == 'attentions')}.{rest}"


_FIRST_LEVEL = re.compile(r"down_blocks\.0\.resnets\.\d+\.")


def _renamed_end(layer: str) -> str:
    for ours, theirs in _ENDS.items():
        if layer == ours or layer.startswith(f"{ours}."):
            return theirs + layer[len(ours) :]
    return layer
