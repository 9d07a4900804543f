"""Tiny random checkpoints of the younger kinds: Stable Diffusion XL, its refiner, SD 2, LCM."""

import json
import shutil
from pathlib import Path
from typing import Any

from checkpoints import bpe_tokenizer, tiny_stable_diffusion

_XL_UNET = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (32, 32, 64),
    "attention_head_dim": (2, 4, 8),
    "transformer_layers_per_block": (1, 1, 2),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
}
_XL_SCHEDULER = {
    "_class_name": "EulerDiscreteScheduler",
    "interpolation_type": "linear",
    "sample_max_value": 1.0,
    "timestep_spacing": "leading",
    "use_karras_sigmas": False,
}
_WIDTH, _SECOND_WIDTH, _PROJECTION = 128, 64, 48


def tiny_stable_diffusion_xl(
    folder: Path, *, seed: int = 0, old_keys: bool = False, **unet_overrides: Any
) -> Path:
    """Stable Diffusion XL's shape: two text encoders, pooled prompt, sizes, levels unlike.

    `old_keys` as in `tiny_stable_diffusion`: the first text encoder's as published checkpoints have
    them, and as older libraries need them.
    """
    settings = {
        **_XL_UNET,
        "cross_attention_dim": _WIDTH + _SECOND_WIDTH,
        "projection_class_embeddings_input_dim": 6 * 8 + _PROJECTION,
        **unet_overrides,
    }
    pipeline = "StableDiffusionXLPipeline"
    tiny_stable_diffusion(folder, seed=seed, old_keys=old_keys, pipeline=pipeline, **settings)
    _write_second_encoder(folder, seed)
    rewrite(folder / "scheduler" / "scheduler_config.json", **_XL_SCHEDULER)
    rewrite(folder / "vae" / "config.json", scaling_factor=0.13025, force_upcast=True)
    index = folder / "model_index.json"
    rewrite(
        index,
        drop=("safety_checker", "requires_safety_checker"),
        force_zeros_for_empty_prompt=True,
        image_encoder=[None, None],
        scheduler=["diffusers", _XL_SCHEDULER["_class_name"]],
        text_encoder_2=["transformers", "CLIPTextModelWithProjection"],
        tokenizer_2=["transformers", "CLIPTokenizer"],
    )
    return folder


def tiny_refiner(folder: Path, *, seed: int = 0) -> Path:
    """XL's refiner: the second text encoder alone, a score in place of the target size."""
    tiny_stable_diffusion_xl(
        folder,
        seed=seed,
        cross_attention_dim=_SECOND_WIDTH,
        projection_class_embeddings_input_dim=5 * 8 + _PROJECTION,
    )
    for name in ("text_encoder", "tokenizer"):
        shutil.rmtree(folder / name)
    rewrite(
        folder / "model_index.json",
        _class_name="StableDiffusionXLImg2ImgPipeline",
        force_zeros_for_empty_prompt=False,
        requires_aesthetics_score=True,
        text_encoder=[None, None],
        tokenizer=[None, None],
    )
    return folder


def tiny_stable_diffusion_2(folder: Path, **settings: Any) -> Path:
    """Stable Diffusion 2's kind: OpenCLIP's text encoder, a head width a level, linear layers."""
    tiny_stable_diffusion(
        folder,
        old_keys=False,
        attention_head_dim=(2, 4, 8),
        use_linear_projection=True,
        **settings,
    )
    # Its transformer has as many layers as are read: the last of OpenCLIP's 24 was left out.
    rewrite(folder / "text_encoder" / "config.json", hidden_act="gelu", projection_dim=64)
    _pad_with_exclamation_marks(folder / "tokenizer")
    return folder


def tiny_turbo(folder: Path) -> Path:
    """SD-Turbo's kind: Stable Diffusion 2, distilled to take its one step from the very end."""
    tiny_stable_diffusion_2(folder)
    turbo = {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"}
    rewrite(folder / "scheduler" / "scheduler_config.json", **turbo)
    rewrite(folder / "model_index.json", scheduler=["diffusers", turbo["_class_name"]])
    return folder


def tiny_lcm(folder: Path) -> Path:
    """A latent consistency model, its guidance scale an input of the UNet."""
    tiny_stable_diffusion(
        folder,
        old_keys=False,
        pipeline="LatentConsistencyModelPipeline",
        time_cond_proj_dim=32,
    )
    lcm = {"_class_name": "LCMScheduler", "original_inference_steps": 50}
    rewrite(folder / "scheduler" / "scheduler_config.json", **lcm)
    rewrite(folder / "model_index.json", scheduler=["diffusers", lcm["_class_name"]])
    return folder


def rewrite(path: Path, drop: tuple[str, ...] = (), **changes: Any) -> None:
    """Change a JSON file's object."""
    content = json.loads(path.read_text(encoding="utf-8")) | changes
    kept = {key: value for key, value in content.items() if key not in drop}
    path.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def _write_second_encoder(folder: Path, seed: int) -> None:
    import torch
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    vocab_size = bpe_tokenizer(folder / "tokenizer_2")
    _pad_with_exclamation_marks(folder / "tokenizer_2")
    config = CLIPTextConfig(
        vocab_size=vocab_size,
        hidden_size=_SECOND_WIDTH,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=2,
        max_position_embeddings=77,
        projection_dim=_PROJECTION,
        hidden_act="gelu",
        bos_token_id=vocab_size - 2,
        eos_token_id=vocab_size - 1,
        pad_token_id=0,
    )
    torch.manual_seed(seed + 1)
    module = CLIPTextModelWithProjection(config)
    for parameter in module.parameters():
        # The pooled prompt must count: among XL's other inputs a small one would go unseen.
        spread = 0.1 if parameter.ndim == 1 else 0.05
        parameter.data.add_(torch.randn_like(parameter), alpha=spread)
    module.save_pretrained(folder / "text_encoder_2")


def _pad_with_exclamation_marks(folder: Path) -> None:
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        rewrite(folder / name, pad_token="!")
