"""ComfyUI's `workflow`: the graph as it was drawn, where values stand without their names."""

from typing import Any

import msgspec

from ...errors import SettingError
from ...files import conform

# Node -> the names of its values, in the order of its widgets; "" is one of the page alone.
_WIDGETS = {
    "KSampler": ("seed", "", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": (
        *("add_noise", "noise_seed", "", "steps", "cfg", "sampler_name", "scheduler"),
        *("start_at_step", "end_at_step", "return_with_leftover_noise"),
    ),
    "SamplerCustom": ("add_noise", "noise_seed", "", "cfg"),
    "KSamplerSelect": ("sampler_name",),
    "BasicScheduler": ("scheduler", "steps", "denoise"),
    "RandomNoise": ("noise_seed", ""),
    "CFGGuider": ("cfg",),
    "CLIPTextEncode": ("text",),
    "CLIPTextEncodeSDXL": (
        *("width", "height", "crop_w", "crop_h", "target_width", "target_height"),
        *("text_g", "text_l"),
    ),
    "EmptyLatentImage": ("width", "height", "batch_size"),
    "EmptySD3LatentImage": ("width", "height", "batch_size"),
    "CheckpointLoaderSimple": ("ckpt_name",),
    "UNETLoader": ("unet_name",),
    "LoraLoader": ("lora_name", "strength_model", "strength_clip"),
    "LoraLoaderModelOnly": ("lora_name", "strength_model"),
    "CLIPSetLastLayer": ("stop_at_clip_layer",),
    "VAELoader": ("vae_name",),
    "PrimitiveNode": ("value",),
}
# How nodes are switched off: with all that hangs on them, or so that what comes in goes through.
_MUTED, _BYPASSED = 2, 4

Link = tuple[int, int | str, int, int | str, int, Any]
"""Its id, the node and output that it comes from, the node and input that it goes to, its type."""


class _Input(msgspec.Struct):
    name: str
    link: int | None = None


class _Node(msgspec.Struct):
    id: int | str
    type: str
    inputs: list[_Input] = []
    widgets_values: list[Any] | dict[str, Any] | None = None
    mode: int = 0


class _Workflow(msgspec.Struct):
    nodes: list[_Node]
    links: list[Link] = []


def graph(content: dict[str, Any]) -> dict[str, Any] | None:
    """The graph as `prompt` has it: {id: {class_type, inputs}}. None where this is no workflow."""
    if not isinstance(content.get("nodes"), list):
        return None
    drawn = conform(content, _Workflow, "the workflow of ComfyUI", error=SettingError)
    sources = {link[0]: [str(link[1]), link[2]] for link in drawn.links}
    passing = {
        str(node.id): sources[node.inputs[0].link]
        for node in drawn.nodes
        if node.type == "Reroute" and node.inputs and node.inputs[0].link in sources
    }
    nodes = {}
    for node in drawn.nodes:
        if node.mode == _MUTED or node.type == "Reroute":
            continue
        linked = {
            one.name: _behind(sources[one.link], passing)
            for one in node.inputs
            if one.link in sources
        }
        bypassed = node.mode == _BYPASSED
        nodes[str(node.id)] = {
            "class_type": "Reroute" if bypassed else node.type,
            "inputs": linked if bypassed else {**_values(node), **linked},
        }
    return nodes


def _values(node: _Node) -> dict[str, Any]:
    values = node.widgets_values or []
    if isinstance(values, list):
        values = dict(zip(_WIDGETS.get(node.type, ()), values, strict=False))
    return {name: value for name, value in values.items() if name}


def _behind(source: list[Any], passing: dict[str, list[Any]]) -> list[Any]:
    """Where a link comes from that only passes nodes without a function."""
    for _ in range(len(passing)):
        source = passing.get(source[0], source)
    return source
