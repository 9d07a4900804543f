"""CompVis's Stable Diffusion 1 in diffusers' terms: which key is which, and shapes to configs.

Shapes do not tell everything. Heads (8 in the UNet, 64 wide in CLIP), norm groups (32) and the
latents' scale (0.18215) are the same in every Stable Diffusion 1 and are written here.
"""

import re
from collections.abc import Callable
from typing import Any

from pleinair.runtime.adapters.compvis import Nesting

from .weights import State

Config = dict[str, Any]

_VAE_NAMES = {
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0": "mid.attn_1",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
    "downsamplers.0.conv": "downsample.conv",
    "upsamplers.0.conv": "upsample.conv",
}


def unet_key(key: str, config: Config) -> str:
    """Return CompVis's name of diffusers' UNet weight `key`, without `model.diffusion_model.`."""
    up = enumerate(config["up_block_types"])
    attending = frozenset(level for level, kind in up if kind != "UpBlock2D")
    layer, _, end = key.rpartition(".")
    return f"{Nesting(config['layers_per_block'] + 1, attending).compvis_layer(layer)}.{end}"


def vae_key(key: str, config: Config) -> str:
    """Return CompVis's name of diffusers' VAE weight `key`, without `first_stage_model.`."""
    levels = len(config["block_out_channels"])
    key = re.sub(r"down_blocks\.(\d+)", r"down.\1", key)
    # CompVis counts the decoder's levels from the picture, diffusers from the latents.
    key = re.sub(r"up_blocks\.(\d+)", lambda found: f"up.{levels - 1 - int(found[1])}", key)
    for ours, theirs in _VAE_NAMES.items():
        key = re.sub(rf"(^|\.){re.escape(ours)}\.", rf"\1{theirs}.", key)
    return key.replace(".resnets.", ".block.")


KEY: dict[str, Callable[[str, Config], str]] = {"unet": unet_key, "vae": vae_key}


def text_config(weights: State) -> Config:
    prefix = "text_model." if any(key.startswith("text_model.") for key in weights) else ""
    tokens, width = weights[f"{prefix}embeddings.token_embedding.weight"].shape
    positions = weights[f"{prefix}embeddings.position_embedding.weight"].shape[0]
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": tokens,
        "hidden_size": width,
        "intermediate_size": weights[f"{prefix}encoder.layers.0.mlp.fc1.weight"].shape[0],
        "max_position_embeddings": positions,
        "num_hidden_layers": _count(weights, rf"{prefix}encoder\.layers\.(\d+)\."),
        "num_attention_heads": max(1, width // 64),
        "projection_dim": width,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
        "bos_token_id": tokens - 2,
        "eos_token_id": tokens - 1,
        "pad_token_id": tokens - 1,
    }


def unet_config(weights: State) -> Config:
    blocks = _count(weights, r"input_blocks\.(\d+)\.")
    downs = [i for i in range(blocks) if f"input_blocks.{i}.0.op.weight" in weights]
    if not downs:
        raise KeyError("input_blocks.*.0.op.weight")
    stride = downs[0]
    firsts = range(1, blocks, stride)  # the first ResNet of each level
    attends = [f"input_blocks.{i}.1.norm.weight" in weights for i in firsts]
    attention = "input_blocks.{}.1.transformer_blocks.0.attn2.to_k.weight"
    first_attention = attention.format(firsts[attends.index(True)] if any(attends) else 1)
    linear = weights[first_attention.replace("transformer_blocks.0.attn2.to_k", "proj_in")]
    return {
        "_class_name": "UNet2DConditionModel",
        "sample_size": 64,
        "in_channels": weights["input_blocks.0.0.weight"].shape[1],
        "out_channels": weights["out.2.weight"].shape[0],
        "layers_per_block": stride - 1,
        "block_out_channels": [
            weights[f"input_blocks.{i}.0.out_layers.3.weight"].shape[0] for i in firsts
        ],
        "down_block_types": ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends],
        "up_block_types": ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in attends[::-1]],
        "cross_attention_dim": weights[first_attention].shape[1],
        "attention_head_dim": 8,
        "norm_num_groups": 32,
        "use_linear_projection": linear.ndim == 2,
    }


def vae_config(weights: State) -> Config:
    levels = _count(weights, r"encoder\.down\.(\d+)\.")
    return {
        "_class_name": "AutoencoderKL",
        "sample_size": 512,
        "in_channels": weights["encoder.conv_in.weight"].shape[1],
        "out_channels": weights["decoder.conv_out.weight"].shape[0],
        "latent_channels": weights["post_quant_conv.weight"].shape[0],
        "layers_per_block": _count(weights, r"encoder\.down\.0\.block\.(\d+)\."),
        "block_out_channels": [
            weights[f"encoder.down.{i}.block.0.conv1.weight"].shape[0] for i in range(levels)
        ],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "norm_num_groups": 32,
        "scaling_factor": 0.18215,
    }


INFER: dict[str, Callable[[State], Config]] = {
    "text_encoder": text_config,
    "unet": unet_config,
    "vae": vae_config,
}


def _count(weights: State, pattern: str) -> int:
    """Count the numbered parts whose number `pattern` captures: the highest, plus one."""
    numbers = [int(found[1]) for key in weights if (found := re.match(pattern, key))]
    if not numbers:
        raise KeyError(pattern.replace("\\", "").replace("(d+)", "*"))
    return max(numbers) + 1
