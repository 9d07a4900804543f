"""Whose weight a LoRA file's key means: kohya's names, diffusers', PEFT's, LyCORIS', ComfyUI's.

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

    part: "unet", "text_encoder", "text_encoder_2" …, or "" where the key does not tell.
    layer: the layer's name with underscores.
    role: "down", "up", "mid", "alpha", "up_bias", "magnitude", or LyCORIS' own: "hada_w1_a",
        "lokr_w2", "diff", "w_norm", "oft_blocks" …
    """

    part: str
    layer: str
    role: str


# kohya: to_q.lora_down.weight; PEFT: to_q.lora_A.default.weight, the adapter's name left out when
# saved; diffusers: to_q.lora.down.weight, earlier to_q_lora.down.weight or lora_linear_layer.
_LORA = re.compile(
    r"[._]lora(?:_linear_layer)?[._](?P<name>down|up|mid|A|B)"
    r"(?:\.(?!weight|bias)[\w-]+)?(?:\.(?P<of>weight|bias))?$"
)
_ROLES = {"A": "down", "B": "up", "B.bias": "up_bias", "up.bias": "up_bias"}
_MAGNITUDE = re.compile(r"\.lora_magnitude_vector(?:\.[\w-]+){0,2}$")  # PEFT's DoRA
_LYCORIS = re.compile(
    r"\.(?:(?P<name>alpha|scale|dora_scale|rescale|hada_(?:w[12]_[ab]|t[12])"
    r"|lokr_(?:w[12](?:_[ab])?|t[12])|diff|diff_b|w_norm|b_norm|oft_blocks|oft_diag|on_input|weight)"
    r"|(?P<glora>[ab][12]|bm)\.weight)$"
)

# What stands before a layer's name, and the part of the model that it means.
_PARTS = {
    "lora_unet_": "unet",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
    "lora_te3_": "text_encoder_3",
    "lora_transformer_": "transformer",
    "unet.": "unet",
    "transformer.": "transformer",
    "text_encoder.": "text_encoder",
    "text_encoder_2.": "text_encoder_2",
    "text_encoder_3.": "text_encoder_3",
    "diffusion_model.": "unet",
    "text_encoders.clip_l.": "text_encoder",
    "text_encoders.clip_h.": "text_encoder",
    "text_encoders.clip_g.": "text_encoder_2",
    "text_encoders.t5xxl.": "text_encoder_3",
    "clip_l.": "text_encoder",
    "clip_h.": "text_encoder",
    "clip_g.": "text_encoder_2",
}
# What tools wrap a model or a file in; it says nothing of the layer.
_WRAPPERS = ("base_model.model.", "module.", "_orig_mod.", "model.diffusion_model.", "lycoris_")
# Files for one network alone, as PEFT and LyCORIS save them, carry no prefix.
_BARE = {
    r"(down|up)_blocks|mid_block|conv_(in|out)|conv_norm_out|time_embedding|add_embedding": "unet",
    r"(input|output)_blocks|middle_block|time_embed|label_emb|out[._][02]": "unet",
    r"(joint|transformer)_blocks": "transformer",
    r"(transformer[._])?text_model|encoder[._]layers|final_layer_norm|text_projection": (
        "text_encoder"
    ),
}

# An attention processor had its own names for the four projections; in CLIP they are q_proj ….
_PROCESSOR = re.compile(r"_processor(?=_)")
_CLIP = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


def target(key: str) -> Target | None:
    """Where the tensor of this name belongs; None where the key is of no known kind."""
    found, role = _role(key)
    if found is None or role is None:
        return None
    part, name = _part(key[: found.start()])
    layer = _PROCESSOR.sub("", name.replace(".", "_").removesuffix("_lora"))
    if part.startswith("text_encoder"):
        layer = _clip_layer(layer)
    else:
        layer = re.sub(r"(attn\d?)_to_out$", r"\1_to_out_0", layer)
    return Target(part, layer, role)


def _role(key: str) -> tuple[re.Match[str] | None, str | None]:
    if found := _LORA.search(key):
        name = found["name"]
        if found["of"] == "bias":
            return found, _ROLES.get(f"{name}.bias")
        return found, _ROLES.get(name, name)
    if found := _MAGNITUDE.search(key):
        return found, "magnitude"
    if found := _LYCORIS.search(key):
        return found, found["name"] or found["glora"]
    return None, None


def _part(name: str) -> tuple[str, str]:
    """The part that a name's beginning means, and the rest; wrappers may stand on both sides."""
    part, before = "", None
    while before != name:
        before = name
        for wrapper in _WRAPPERS:
            name = name.removeprefix(wrapper)
        prefix = next((one for one in _PARTS if not part and name.startswith(one)), "")
        part, name = _PARTS.get(prefix, part), name.removeprefix(prefix)
    if part:
        return part, name
    return next((part for start, part in _BARE.items() if re.match(start, name)), ""), name


def _clip_layer(layer: str) -> str:
    layer = layer.removeprefix("transformer_").removeprefix("text_model_")
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
