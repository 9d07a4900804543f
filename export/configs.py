"""The configs of a checkpoint's networks, checked by type and range before anything is built.

The libraries heed every field of them; here stand those that they, and we, compute
with. A number of a thousand millions in any other is refused as well.
"""

import math
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from pleinair.runtime.errors import SourceError, shown
from pleinair.runtime.files import conform
from pleinair.runtime.model.latent_space import VaeConfig

Config = dict[str, Any]

_HINT = "copy it from the checkpoint anew"
_LARGEST, _LONGEST, _DEEPEST = 10_000_000, 10_000, 6

_Count: TypeAlias = Annotated[int, Meta(ge=1, le=512)]
_Width: TypeAlias = Annotated[int, Meta(ge=1, le=65_536)]
_Side: TypeAlias = Annotated[int, Meta(ge=1, le=65_536)]
_Size: TypeAlias = _Side | Annotated[list[_Side], Meta(min_length=1, max_length=2)]
_Names: TypeAlias = Annotated[list[str], Meta(min_length=1, max_length=8)]
_Widths: TypeAlias = Annotated[list[_Width], Meta(min_length=1, max_length=8)]
_Depths: TypeAlias = _Count | list[_Count | list[_Count]]
# None where attention was taken out, as in the levels of SSD-1B.
_Transformers: TypeAlias = Annotated[int, Meta(ge=0, le=512)]
_Attentions: TypeAlias = _Transformers | list[_Transformers | list[_Transformers]]
_Fraction: TypeAlias = Annotated[float, Meta(ge=0, le=1)]


class _UNet(msgspec.Struct):
    sample_size: _Size | None = None
    in_channels: _Width = 4
    out_channels: _Width = 4
    down_block_types: _Names | None = None
    up_block_types: _Names | None = None
    block_out_channels: _Widths | None = None
    layers_per_block: _Depths = 2
    cross_attention_dim: _Width = 1280
    attention_head_dim: _Width | list[_Width] = 8
    num_attention_heads: _Width | list[_Width] | None = None
    norm_num_groups: _Width | None = 32
    norm_eps: _Fraction = 1e-5
    transformer_layers_per_block: _Attentions = 1
    reverse_transformer_layers_per_block: _Attentions | None = None
    mid_block_type: str | None = None
    time_cond_proj_dim: _Width | None = None
    time_embedding_dim: _Width | None = None
    addition_time_embed_dim: _Width | None = None
    addition_embed_type: str | None = None
    class_embed_type: str | None = None
    encoder_hid_dim: _Width | None = None
    encoder_hid_dim_type: str | None = None
    num_class_embeds: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    projection_class_embeddings_input_dim: _Width | None = None


class _Vae(VaeConfig):
    in_channels: Annotated[int, Meta(ge=3, le=3)] = 3
    out_channels: Annotated[int, Meta(ge=3, le=3)] = 3
    down_block_types: _Names | None = None
    up_block_types: _Names | None = None
    layers_per_block: _Count = 1
    norm_num_groups: _Width = 32
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True
    force_upcast: bool | float | None = True


class _TinyVae(msgspec.Struct):
    in_channels: Annotated[int, Meta(ge=3, le=3)] = 3
    out_channels: Annotated[int, Meta(ge=3, le=3)] = 3
    latent_channels: _Width = 4
    encoder_block_out_channels: _Widths | None = None
    decoder_block_out_channels: _Widths | None = None
    num_encoder_blocks: _Widths | None = None
    num_decoder_blocks: _Widths | None = None
    upsampling_scaling_factor: Annotated[int, Meta(ge=1, le=16)] = 2
    scaling_factor: Annotated[float, Meta(ge=1e-4, le=1e4)] = 1.0


class _Clip(msgspec.Struct):
    vocab_size: Annotated[int, Meta(ge=1, le=2_000_000)] = 49408
    hidden_size: _Width = 512
    intermediate_size: _Width = 2048
    projection_dim: _Width = 512
    num_hidden_layers: _Count = 12
    num_attention_heads: _Width = 8
    max_position_embeddings: _Width = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: _Fraction = 1e-5
    eos_token_id: int | None = None
    bos_token_id: int | None = None
    pad_token_id: int | None = None


class _T5(msgspec.Struct):
    vocab_size: Annotated[int, Meta(ge=1, le=2_000_000)] = 32128
    d_model: _Width = 512
    d_kv: _Width = 64
    d_ff: _Width = 2048
    num_layers: _Count = 6
    num_heads: _Width = 8
    relative_attention_num_buckets: _Width = 32
    relative_attention_max_distance: _Width = 128
    layer_norm_epsilon: _Fraction = 1e-6
    feed_forward_proj: str = "relu"


class _Sd3Transformer(msgspec.Struct):
    sample_size: _Size = 128
    patch_size: Annotated[int, Meta(ge=1, le=64)] = 2
    in_channels: _Width = 16
    out_channels: _Width | None = 16
    num_layers: _Count = 18
    attention_head_dim: _Width = 64
    num_attention_heads: _Width = 18
    joint_attention_dim: _Width = 4096
    caption_projection_dim: _Width = 1152
    pooled_projection_dim: _Width = 2048
    pos_embed_max_size: Annotated[int, Meta(ge=1, le=4096)] = 96
    dual_attention_layers: list[Annotated[int, Meta(ge=0, le=512)]] = []
    qk_norm: str | None = None


class _ControlNet(msgspec.Struct):
    in_channels: _Width = 4
    conditioning_channels: _Width = 3
    down_block_types: _Names | None = None
    block_out_channels: _Widths | None = None
    layers_per_block: _Count = 2
    cross_attention_dim: _Width = 1280
    attention_head_dim: _Width | list[_Width] = 8
    num_attention_heads: _Width | list[_Width] | None = None
    norm_num_groups: _Width | None = 32
    transformer_layers_per_block: _Depths = 1
    conditioning_embedding_out_channels: _Widths | None = None


SHAPES: dict[str, type[msgspec.Struct]] = {
    "AutoencoderKL": _Vae,
    "AutoencoderTiny": _TinyVae,
    "CLIPTextModel": _Clip,
    "CLIPTextModelWithProjection": _Clip,
    "ControlNetModel": _ControlNet,
    "SD3Transformer2DModel": _Sd3Transformer,
    "T5EncoderModel": _T5,
    "UNet2DConditionModel": _UNet,
}


def check(class_name: str, config: Config, where: str) -> None:
    """Raise `SourceError`, naming the field, for a config of such a class that no network has."""
    _require_bounds(config, where, "")
    if class_name in SHAPES:
        conform(config, SHAPES[class_name], where, _HINT, error=SourceError)


def _require_bounds(value: Any, where: str, field: str, depth: int = 0) -> None:
    """No number, list or text in it is larger than any network's."""
    match value:
        case bool() | None:
            fine = True
        case int() | float():
            fine = -_LARGEST <= value <= _LARGEST and math.isfinite(value)
        case str() | list() | dict():
            fine = len(value) <= _LONGEST and depth <= _DEEPEST
        case _:
            fine = isinstance(value, tuple) and depth <= _DEEPEST
    if not fine:
        raise SourceError(f"{where}: {shown(field)} is of no size that a network has; {_HINT}")
    if isinstance(value, dict):
        for key, inner in value.items():
            _require_bounds(inner, where, f"{field}.{key}".lstrip("."), depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            _require_bounds(inner, where, field, depth + 1)
