"""Whose weight a LoRA file's key means: kohya's names, diffusers', PEFT's and LyCORIS'.

Tools differ in dots or underscores between the parts of a layer's name, so names are compared with
underscores alone: "down_blocks_0_attentions_0_proj_in".
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from .compvis import Nesting


@dataclass(frozen=True)
class Target:
    """Where a tensor of a file belongs.

    part: "unet", "text_encoder", "text_encoder_2", or "" where the key does not tell.
    layer: the layer's name with underscores.
    role: "down", "up", "mid", "alpha", or LyCORIS' own: "hada_w1_a", "lokr_w2" …
    """

    part: str
    layer: str
    role: str


# kohya: to_q.lora_down.weight; PEFT: to_q.lora_A.default.weight, the adapter's name left out when
# saved; diffusers: to_q.lora.down.weight, earlier to_q_lora.down.weight or lora_linear_layer.
_LORA = re.compile(r"[._]lora(?:_linear_layer)?[._](?P<name>down|up|mid|A|B)(?:\.[\w-]+)?\.weight$")
_LYCORIS = re.compile(r"\.(?P<name>alpha|hada_(?:w[12]_[ab]|t[12])|lokr_(?:w[12](?:_[ab])?|t2))$")
_ROLES = {"A": "down", "B": "up"}

_PARTS = {
    "lora_unet_": "unet",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
    "unet.": "unet",
    "text_encoder.": "text_encoder",
    "text_encoder_2.": "text_encoder_2",
}
# Files for one network alone, as PEFT saves them, carry no prefix.
_BARE = {
    r"(down|up)_blocks|mid_block|conv_(in|out)|time_embedding|add_embedding": "unet",
    r"text_model|encoder\.layers": "text_encoder",
}

# An attention processor had its own names for the four projections; in CLIP they are q_proj ….
_PROCESSOR = re.compile(r"_processor(?=_)")
_CLIP = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


def target(key: str) -> Target | None:
    """Where the tensor of this name belongs; None where the key is of no known kind."""
    found = _LORA.search(key) or _LYCORIS.search(key)
    if found is None:
        return None
    name = key[: found.start()].removeprefix("base_model.model.")
    part, name = _part(name)
    layer = _PROCESSOR.sub("", name.replace(".", "_").removesuffix("_lora"))
    if part.startswith("text_encoder"):
        layer = _clip_layer(layer)
    else:
        layer = re.sub(r"(attn\d)_to_out$", r"\1_to_out_0", layer)
    return Target(part, layer, _ROLES.get(found["name"], found["name"]))


def _part(name: str) -> tuple[str, str]:
    for prefix, part in _PARTS.items():
        if name.startswith(prefix):
            return part, name.removeprefix(prefix)
    for start, part in _BARE.items():
        if re.match(start, name):
            return part, name
    return "", name


def _clip_layer(layer: str) -> str:
    layer = layer.removeprefix("text_model_")
    start, _, end = layer.rpartition("self_attn_")
    return f"{start}self_attn_{_CLIP[end]}" if end in _CLIP else layer


def layers(part: str, parameters: Iterable[str]) -> dict[str, str]:
    """Every name under which a file may mean a weight -> the parameter.

    A UNet's layers also go by CompVis's names, which kohya trains SDXL under.
    """
    known = {name.removesuffix(".weight"): name for name in parameters}
    found = {layer.replace(".", "_"): name for layer, name in known.items()}
    if part == "unet":
        nesting = Nesting.of(known)
        for layer, name in known.items():
            found.setdefault(nesting.compvis_layer(layer).replace(".", "_"), name)
    return found
