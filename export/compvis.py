"""CompVis's networks in diffusers' terms: which key is which, and shapes to configs.

Shapes do not tell everything. Heads (8 in the UNet of version 1, 64 wide everywhere else) and norm
groups (32) are the same in every Stable Diffusion and are written here; what differs from kind to
kind stands in families/.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

import torch

from pleinair.runtime.adapters.compvis import Nesting
from pleinair.runtime.errors import SourceError

from . import architecture, open_clip
from .reading import State
from .weights import some

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


_GUIDANCE = "time_embed.cond_proj.weight"


def unet_key(key: str, config: Config, depth: int | None = None) -> str:
    """Return CompVis's name of diffusers' UNet weight `key`, without `model.diffusion_model.`.

    depth: blocks that a level is counted as having; None is as many as it has. Converters of
    BK-SDM and SDXS count on as in the models that blocks were taken from, and leave gaps.
    """
    if key == "time_embedding.cond_proj.weight":
        return _GUIDANCE
    up = enumerate(config["up_block_types"])
    attending = frozenset(level for level, kind in up if kind != "UpBlock2D")
    layer, _, end = key.rpartition(".")
    nesting = Nesting(depth or config["layers_per_block"] + 1, attending)
    return f"{nesting.compvis_layer(layer)}.{end}"


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

_CLASSES = {"unet": "diffusers.UNet2DConditionModel", "vae": "diffusers.AutoencoderKL"}


def unet_part(part: State) -> State:
    """Return a UNet's weights with the names that diffusers' script left as they were.

    It knows no attention at the lowest level on the way up, which BK-SDM tiny and SDXS have.
    """
    own = re.compile(r"^up_blocks\.0\.attentions\.(\d+)\.")
    return {own.sub(r"output_blocks.\1.1.", key): value for key, value in part.items()}


def infer(submodel: str, part: State, penultimate: bool = False) -> Config:
    """Read a sub-model's config off the shapes of its weights, named without their prefix.

    penultimate: see `open_clip.config`. Raises `KeyError` with the name of a weight it lacks.
    """
    if submodel == "unet":
        return unet_config(part)
    if submodel == "vae":
        return vae_config(part)
    return open_clip.config(part, penultimate) if open_clip.has(part) else text_config(part)


def renamed(submodel: str, part: State, config: Config, prefix: str, origin: str) -> State:
    """Return the weights in `part` under diffusers' and transformers' names.

    `prefix` and `origin` name a weight in errors as it stands in its file. Raises `SourceError`
    when one is missing, or left over. CLIP's are transformers' own names: loading checks them.
    """
    if submodel not in KEY:
        return _from_open_clip(part, config, prefix, origin) if open_clip.has(part) else part
    module = architecture.build(_CLASSES[submodel], config, origin)
    targets = module.state_dict()
    theirs = _names(submodel, list(targets), config, part)
    _require_match(part, theirs.values(), prefix, f"{origin}: no place in its {submodel}", origin)
    return {key: _without_kernel(part[name], targets[key]) for key, name in theirs.items()}


def _names(submodel: str, keys: list[str], config: Config, part: State) -> dict[str, str]:
    """diffusers' name -> that in the file: where blocks are left out, tools count in two ways."""
    if submodel != "unet":
        return {key: KEY[submodel](key, config) for key in keys}
    names = {key: unet_key(key, config, _depth(part)) for key in keys}
    return {key: name if name in part else _other_place(name, part) for key, name in names.items()}


def _other_place(name: str, part: State) -> str:
    """An upsampler stands after its block's attention, or where that of version 1 has it."""
    found = re.fullmatch(r"(output_blocks\.\d+)\.([12])\.(conv\.\w+)", name)
    other = f"{found[1]}.{3 - int(found[2])}.{found[3]}" if found else name
    return other if other in part else name


def _from_open_clip(part: State, config: Config, prefix: str, origin: str) -> State:
    module = architecture.build(
        "transformers.CLIPTextModel", config | {"architectures": None}, origin
    )
    names = [key.removeprefix("text_model.") for key in module.state_dict()]
    if config["architectures"] == ["CLIPTextModelWithProjection"]:
        names.append("text_projection.weight")
    theirs = {name: open_clip.key(name) for name in names}
    used = {key: value for key, value in part.items() if not open_clip.is_past(key, config)}
    used |= {key: part[key] for key in theirs.values() if key in part}
    _require_match(used, theirs.values(), prefix, f"{origin}: no place in its text encoder", origin)
    return {
        name if name == "text_projection.weight" else f"text_model.{name}": open_clip.value(
            name, part[key]
        )
        for name, key in theirs.items()
    }


def _require_match(
    part: State, wanted: Iterable[str], prefix: str, no_place: str, origin: str
) -> None:
    names = set(wanted)
    missing = sorted(prefix + name for name in names - part.keys())
    if missing:
        raise SourceError(f"{origin} lacks {some(missing)}")
    strangers = [prefix + name for name in part if name not in names]
    if strangers:
        raise SourceError(f"{no_place} for {some(strangers)}")


def _without_kernel(value: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Turn a 1x1 convolution, as CompVis wrote attention, into diffusers' matrix."""
    if value.ndim == 4 and target.ndim == 2 and value.shape[2:] == (1, 1):
        return value[:, :, 0, 0]
    return value


def text_config(weights: State) -> Config:
    """Read CLIP's config: OpenAI's ViT-L/14 in version 1 and as XL's first text encoder."""
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
    stride = _depth(weights)
    firsts = range(1, blocks, stride)  # the first ResNet of each level
    layers = sum(f"input_blocks.{i}.0.out_layers.3.weight" in weights for i in range(1, stride))
    attends = [f"input_blocks.{i}.1.norm.weight" in weights for i in firsts]
    first_attention = _CROSS.format(firsts[attends.index(True)] if any(attends) else 1)
    context = weights[first_attention].shape[1]
    entrance = first_attention.replace("transformer_blocks.0.attn2.to_k", "proj_in")
    linear = weights[entrance].ndim == 2
    widths = [weights[f"input_blocks.{i}.0.out_layers.3.weight"].shape[0] for i in firsts]
    config = {
        "_class_name": "UNet2DConditionModel",
        "sample_size": 64,
        "in_channels": weights["input_blocks.0.0.weight"].shape[1],
        "out_channels": weights["out.2.weight"].shape[0],
        "layers_per_block": layers,
        "block_out_channels": widths,
        "down_block_types": ["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends],
        "mid_block_type": _middle(weights),
        "up_block_types": ["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in attends[::-1]],
        "cross_attention_dim": context,
        # diffusers' name; its value is the number of heads.
        "attention_head_dim": [max(1, width // 64) for width in widths] if linear else 8,
        "norm_num_groups": 32,
        "use_linear_projection": linear,
        **_transformers(weights, firsts, layers),
    }
    if _GUIDANCE in weights:  # distilled with its guidance scale as an input
        config["time_cond_proj_dim"] = weights[_GUIDANCE].shape[1]
    return config | _class_conditions(weights) | _only_cross_attention(weights, firsts, context)


_CROSS = "input_blocks.{}.1.transformer_blocks.0.attn2.to_k.weight"
_WHOLE_MIDDLE = "UNetMidBlock2DCrossAttn"


def _depth(weights: State) -> int:
    """Blocks that a level is counted as having, its downsampler among them."""
    blocks = _count(weights, r"input_blocks\.(\d+)\.")
    downs = (i for i in range(blocks) if f"input_blocks.{i}.0.op.weight" in weights)
    if (first := next(downs, None)) is None:
        raise KeyError("input_blocks.*.0.op.weight")
    return first


def _middle(weights: State) -> str | None:
    """Of SSD-1B one ResNet is left of the middle block, of BK-SDM's small ones nothing."""
    if any(key.startswith("middle_block.1.") for key in weights):
        return _WHOLE_MIDDLE
    is_there = any(key.startswith("middle_block.") for key in weights)
    return "UNetMidBlock2D" if is_there else None


def _transformers(weights: State, firsts: range, layers: int) -> Config:
    """How many transformers an attention has: level by level, or attention by attention.

    The last number also is the middle block's.
    """
    down = [
        [_transformers_in(weights, f"input_blocks.{first + i}") for i in range(layers)]
        for first in firsts
    ]
    ups = range(0, len(firsts) * firsts.step, firsts.step)
    up = [
        [_transformers_in(weights, f"output_blocks.{first + i}") for i in range(layers + 1)]
        for first in ups
    ]
    levels = [_level(depths) for depths in down]
    if not any(down[-1]):
        levels[-1] = _transformers_in(weights, "middle_block") or 1
    if all(_level(o) == _level(d) for o, d in zip(up[::-1], down, strict=True)) and not any(
        isinstance(level, list) for level in levels
    ):
        same = len(set(levels)) == 1
        return {"transformer_layers_per_block": levels[0] if same else levels}
    # diffusers asks for lists as soon as the way up is other than the way down.
    return {
        "transformer_layers_per_block": [one if any(one) else 1 for one in down],
        "reverse_transformer_layers_per_block": [one if any(one) else 1 for one in up],
    }


def _level(depths: list[int]) -> int | list[int]:
    """A number where all attentions of a level have as many; 1 for a level without."""
    return (depths[0] or 1) if len(set(depths)) == 1 else depths


def _transformers_in(weights: State, block: str) -> int:
    pattern = re.compile(rf"{re.escape(block)}\.1\.transformer_blocks\.(\d+)\.")
    return max((int(found[1]) + 1 for key in weights if (found := pattern.match(key))), default=0)


def _class_conditions(weights: State) -> Config:
    """What the UNet is told beside the prompt: XL sizes and crops, the upscaler a noise level."""
    if "label_emb.weight" in weights:
        # The upscaler is of version 2 by its projections, and of version 1 by its 8 heads.
        classes = weights["label_emb.weight"].shape[0]
        return {"num_class_embeds": classes, "attention_head_dim": 8}
    if "label_emb.0.0.weight" not in weights:
        return {}
    return {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": weights["label_emb.0.0.weight"].shape[1],
    }


def _only_cross_attention(weights: State, firsts: range, context: int) -> Config:
    """Levels, the upscaler's, in which both attentions look at the prompt."""
    shapes = [weights.get(_CROSS.format(i).replace("attn2", "attn1")) for i in firsts]
    only = [s is not None and s.shape[1] == context != s.shape[0] for s in shapes]
    return {"only_cross_attention": only} if any(only) else {}


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
    }


def _count(weights: State, pattern: str) -> int:
    """Count the numbered parts whose number `pattern` captures: the highest, plus one."""
    numbers = [int(found[1]) for key in weights if (found := re.match(pattern, key))]
    if not numbers:
        raise KeyError(pattern.replace("\\", "").replace("(d+)", "*"))
    return max(numbers) + 1
