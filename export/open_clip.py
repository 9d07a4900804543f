"""OpenCLIP's text encoder, of Stable Diffusion 2 and XL, in the terms of transformers' CLIP.

OpenCLIP keeps the three projections of attention in one matrix and the last projection the other
way round (x @ P).
"""

import re
from typing import Any

from torch import Tensor

from .reading import State

Config = dict[str, Any]

_ENDS = {
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "text_projection.weight": "text_projection",
}
_NAMES = {
    "encoder.layers.": "transformer.resblocks.",
    "final_layer_norm": "ln_final",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn": "attn",
}
_FUSED = re.compile(r"\.([qkv])_proj\.(weight|bias)$")
_LAYER = re.compile(r"transformer\.resblocks\.(\d+)\.")


def has(weights: State) -> bool:
    """Tell whether these are OpenCLIP's names rather than transformers'."""
    return any(_LAYER.match(key) for key in weights)


def config(weights: State, penultimate: bool) -> Config:
    """Read the config off the shapes.

    penultimate: the model was trained on the last layer but one, with the last norm after it, so
        that the last layer is no part of it (Stable Diffusion 2). XL is given both states.
    Raises `KeyError` with the name of a weight that it lacks.
    """
    tokens, width = weights["token_embedding.weight"].shape
    layers = 1 + max(int(found[1]) for key in weights if (found := _LAYER.match(key)))
    projection = weights.get("text_projection")
    with_projection = projection is not None and not penultimate
    return {
        "architectures": ["CLIPTextModelWithProjection" if with_projection else "CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": tokens,
        "hidden_size": width,
        "intermediate_size": weights["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        "max_position_embeddings": weights["positional_embedding"].shape[0],
        "num_hidden_layers": layers - penultimate,
        "num_attention_heads": max(1, width // 64),
        "projection_dim": width if projection is None else projection.shape[1],
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "bos_token_id": tokens - 2,
        "eos_token_id": tokens - 1,
        "pad_token_id": 0,
    }


def key(name: str) -> str:
    """Return OpenCLIP's name of the weight `name` of transformers, without `text_model.`."""
    if name in _ENDS:
        return _ENDS[name]
    for ours, theirs in _NAMES.items():
        name = name.replace(ours, theirs)
    return _FUSED.sub(r".in_proj_\2", name)


def value(name: str, theirs: Tensor) -> Tensor:
    """Return what transformers' `name` holds, out of the tensor that OpenCLIP keeps it in."""
    fused = _FUSED.search(name)
    if fused:
        return theirs.chunk(3)["qkv".index(fused[1])].contiguous()
    return theirs.T.contiguous() if name == "text_projection.weight" else theirs


def is_past(theirs: str, config: Config) -> bool:
    """Tell whether a weight belongs to what the config leaves out: last layer, projection."""
    found = _LAYER.match(theirs)
    if found:
        return int(found[1]) >= int(config["num_hidden_layers"])
    return theirs == "text_projection"
