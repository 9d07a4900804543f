"""Tiny models of the later kinds of Stable Diffusion, and their weights as CompVis's layout has
them. UNet and VAE are renamed by the code under test, which tests hold against diffusers' own
converter; OpenCLIP's names are written out here.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from checkpoints import compvis_state, tiny_stable_diffusion
from checkpoints_xl import tiny_stable_diffusion_xl

State = dict[str, torch.Tensor]
_TEXT = "cond_stage_model."


def tiny_version_2(folder: Path, **options: Any) -> Path:
    """Write a random checkpoint of Stable Diffusion 2's shape: OpenCLIP, matrices, wide heads."""
    settings = {"use_linear_projection": True, "attention_head_dim": [1, 1, 1]}
    settings |= {"prediction_type": "v_prediction", "clip_vocabulary": True, "old_keys": False}
    tiny_stable_diffusion(folder, **(settings | options))
    _change(folder / "text_encoder" / "config.json", hidden_act="gelu", pad_token_id=0)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        _change(folder / "tokenizer" / name, pad_token="!")
    return folder


def _change(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes))


def version_2_state(folder: Path) -> State:
    """Return that folder's weights as one file has them, with the last layer nobody uses."""
    state = compvis_state(folder)
    text = {key: value for key, value in state.items() if key.startswith(_TEXT)}
    prefix = f"{_TEXT}transformer."
    encoder = {k.removeprefix(prefix): v for k, v in text.items() if "position_ids" not in k}
    rest = {key: value for key, value in state.items() if key not in text}
    converted = open_clip_state(encoder)
    last = max(int(key.split(".")[2]) for key in converted if "resblocks" in key)
    beyond = {
        key.replace(f"resblocks.{last}.", f"resblocks.{last + 1}."): value + 1
        for key, value in converted.items()
        if f"resblocks.{last}." in key
    }
    unused = {"text_projection": torch.ones(128, 96), "attn_mask": torch.zeros(77, 77)}
    whole = converted | beyond | unused
    return rest | {f"{_TEXT}model.{key}": value.clone() for key, value in whole.items()}


def tiny_xl(folder: Path) -> Path:
    """Write a random checkpoint of Stable Diffusion XL's shape, with heads of 64 as its own."""
    from transformers import CLIPTextModelWithProjection

    widths = {"block_out_channels": (64, 64, 128), "attention_head_dim": (1, 1, 2)}
    tiny_stable_diffusion_xl(folder, clip_vocabulary=True, **widths)
    second = folder / "text_encoder_2"
    projection = json.loads((second / "config.json").read_text())["projection_dim"]
    config = _text_config(64, "gelu", projection)
    config.vocab_size, config.bos_token_id, config.eos_token_id = 49408, 49406, 49407
    CLIPTextModelWithProjection(config).save_pretrained(second)
    shutil.copytree(folder / "tokenizer", folder / "tokenizer_2", dirs_exist_ok=True)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        _change(folder / "tokenizer_2" / name, pad_token="!")
    return folder


def xl_state(folder: Path) -> State:
    """Return that folder's weights as one file has them."""
    first = "conditioner.embedders.0.transformer."
    state = {
        key.replace(f"{_TEXT}transformer.", first): value
        for key, value in compvis_state(folder).items()
    }
    second = open_clip_state(load_file(folder / "text_encoder_2" / "model.safetensors"))
    named = {f"conditioner.embedders.1.model.{key}": v.clone() for key, v in second.items()}
    return state | named


def open_clip_state(state: State) -> State:
    """Return transformers' weights under OpenCLIP's names, three projections in one matrix."""
    bare = {key.removeprefix("text_model."): value for key, value in state.items()}
    named = {
        "token_embedding.weight": bare["embeddings.token_embedding.weight"],
        "positional_embedding": bare["embeddings.position_embedding.weight"],
        "logit_scale": torch.tensor(4.6),
    }
    if "text_projection.weight" in bare:
        named["text_projection"] = bare["text_projection.weight"].T.contiguous()
    layers = 1 + max(int(key.split(".")[2]) for key in bare if key.startswith("encoder."))
    for end in ("weight", "bias"):
        named[f"ln_final.{end}"] = bare[f"final_layer_norm.{end}"]
        for i in range(layers):
            ours, theirs = f"encoder.layers.{i}", f"transformer.resblocks.{i}"
            fused = [bare[f"{ours}.self_attn.{x}_proj.{end}"] for x in "qkv"]
            named[f"{theirs}.attn.in_proj_{end}"] = torch.cat(fused)
            named[f"{theirs}.attn.out_proj.{end}"] = bare[f"{ours}.self_attn.out_proj.{end}"]
            named[f"{theirs}.mlp.c_fc.{end}"] = bare[f"{ours}.mlp.fc1.{end}"]
            named[f"{theirs}.mlp.c_proj.{end}"] = bare[f"{ours}.mlp.fc2.{end}"]
            named[f"{theirs}.ln_1.{end}"] = bare[f"{ours}.layer_norm1.{end}"]
            named[f"{theirs}.ln_2.{end}"] = bare[f"{ours}.layer_norm2.{end}"]
    return named


def xl_models() -> dict[str, Any]:
    """Stable Diffusion XL's four networks: two text encoders, sizes beside the prompt."""
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    conditions = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
    return {
        "text_encoder": CLIPTextModel(_text_config(64, "quick_gelu", 64)),
        "text_encoder_2": CLIPTextModelWithProjection(_text_config(128, "gelu", 96)),
        "unet": _unet(
            ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            (64, 64, 128),
            attention_head_dim=[1, 1, 2],
            transformer_layers_per_block=[1, 2, 3],
            cross_attention_dim=64 + 128,
            projection_class_embeddings_input_dim=96 + 6 * 8,
            **conditions,
        ),
        "vae": _vae(4),
    }


def refiner_models() -> dict[str, Any]:
    """The refiner's: the second text encoder alone."""
    xl = xl_models()
    unet = _unet(
        ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        (32, 64, 64, 64),
        attention_head_dim=[1, 1, 1, 1],
        transformer_layers_per_block=2,
        cross_attention_dim=128,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=96 + 5 * 8,
    )
    return {"text_encoder_2": xl["text_encoder_2"], "unet": unet, "vae": xl["vae"]}


def upscaler_models() -> dict[str, Any]:
    """The x4 upscaler's: a picture beside the latents, a noise level, a VAE of three levels."""
    from transformers import CLIPTextModel

    unet = _unet(
        ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        (32, 64, 64, 128),
        in_channels=7,
        attention_head_dim=8,
        cross_attention_dim=128,
        only_cross_attention=[True, True, True, False],
        num_class_embeds=10,
    )
    text_encoder = CLIPTextModel(_text_config(128, "gelu", 128))
    return {"text_encoder": text_encoder, "unet": unet, "vae": _vae(3)}


def whole_state(models: dict[str, Any], prefixes: dict[str, str]) -> State:
    """Put the weights of several networks into one state dict, each under its prefix."""
    from pleinair.export import compvis

    state: State = {}
    for name, model in models.items():
        weights = dict(model.state_dict())
        if name in compvis.KEY:
            part = {compvis.KEY[name](key, model.config): v for key, v in weights.items()}
        elif prefixes[name].endswith(".model."):
            part = open_clip_state(weights)
        else:
            part = {f"text_model.{k.removeprefix('text_model.')}": v for k, v in weights.items()}
        state |= {prefixes[name] + key: value.clone() for key, value in part.items()}
    return state


def _unet(downs: tuple[str, ...], widths: tuple[int, ...], **settings: Any) -> Any:
    from diffusers import UNet2DConditionModel

    torch.manual_seed(1)
    ups = tuple(name.replace("Down", "Up") for name in reversed(downs))
    chosen = {"sample_size": 8, "layers_per_block": 1, "use_linear_projection": True, **settings}
    return UNet2DConditionModel(
        down_block_types=downs, up_block_types=ups, block_out_channels=widths, **chosen
    )


def _vae(levels: int) -> Any:
    from diffusers import AutoencoderKL

    torch.manual_seed(2)
    return AutoencoderKL(
        block_out_channels=(32,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
    )


def _text_config(width: int, activation: str, projection: int) -> Any:
    from transformers import CLIPTextConfig

    torch.manual_seed(width)
    return CLIPTextConfig(
        vocab_size=600,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=width // 64,
        projection_dim=projection,
        hidden_act=activation,
        bos_token_id=598,
        eos_token_id=599,
        pad_token_id=0 if activation == "gelu" else 599,
    )
