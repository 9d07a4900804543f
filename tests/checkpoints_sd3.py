"""Tiny random checkpoints of Stable Diffusion 3 and 3.5, in the very files of the big ones."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from checkpoints import bpe_tokenizer
from checkpoints_xl import rewrite

_WORDS = "a an the of on in with and red green blue photo picture apple cat dog tree house boat"
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,:;!?'()[]-"

_WIDTH, _SECOND_WIDTH = 32, 24
_T5_WIDTH = 64  # as in the big ones: more than both of CLIP's together

_SCHEDULER = {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "_diffusers_version": "0.29.0",
    "num_train_timesteps": 1000,
    "shift": 3.0,
}


def tiny_stable_diffusion_3(
    folder: Path, *, seed: int = 0, t5: bool = True, scheduler: Any = None, **overrides: Any
) -> Path:
    """Write a random checkpoint of Stable Diffusion 3's shape, below 1 M parameters, to `folder`.

    Pictures are 8 times the latents, which have 16 channels; the transformer has two layers.
    Without `t5` the third text encoder and its tokenizer are missing, as people leave them out.
    `scheduler` are options of it, and `overrides` are passed to SD3Transformer2DModel:
    `qk_norm="rms_norm", dual_attention_layers=(0,)` makes Stable Diffusion 3.5.
    """
    folder = Path(folder)
    vocab_size = bpe_tokenizer(folder / "tokenizer")
    bpe_tokenizer(folder / "tokenizer_2")
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        rewrite(folder / "tokenizer_2" / name, pad_token="!")
    modules = {
        "text_encoder": random(projected_clip, seed + 1, vocab_size, _WIDTH),
        "text_encoder_2": random(projected_clip, seed + 2, vocab_size, _SECOND_WIDTH),
        "transformer": random(tiny_transformer, seed, **overrides),
        "vae": random(tiny_vae, seed),
    }
    if t5:
        vocab_size = unigram_tokenizer(folder / "tokenizer_3")
        modules["text_encoder_3"] = random(tiny_t5, seed + 3, vocab_size)
    for name, module in modules.items():
        module.save_pretrained(folder / name)
    (folder / "scheduler").mkdir()
    settings = json.dumps(_SCHEDULER | (scheduler or {}), indent=2)
    (folder / "scheduler" / "scheduler_config.json").write_text(settings, encoding="utf-8")
    index = {
        "_class_name": "StableDiffusion3Pipeline",
        "_diffusers_version": "0.29.0",
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "text_encoder_3": ["transformers", "T5EncoderModel"] if t5 else [None, None],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "tokenizer_3": ["transformers", "T5TokenizerFast"] if t5 else [None, None],
        "transformer": ["diffusers", "SD3Transformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
    return folder


def tiny_stable_diffusion_3_5(folder: Path, **settings: Any) -> Path:
    """The younger kind: queries and keys are normed, and the first layer attends twice."""
    return tiny_stable_diffusion_3(
        folder, qk_norm="rms_norm", dual_attention_layers=(0,), **settings
    )


def tiny_transformer(**overrides: Any) -> Any:
    from diffusers import SD3Transformer2DModel

    settings = {
        "sample_size": 8,
        "patch_size": 2,
        "in_channels": 16,
        "out_channels": 16,
        "num_layers": 2,
        "attention_head_dim": 8,
        "num_attention_heads": 4,
        "joint_attention_dim": _T5_WIDTH,
        "caption_projection_dim": 32,
        "pooled_projection_dim": _WIDTH + _SECOND_WIDTH,
        "pos_embed_max_size": 32,
    }
    return SD3Transformer2DModel(**(settings | overrides))


def projected_clip(vocab_size: int, width: int) -> Any:
    """CLIP's text model with a projection as wide as its layers, as Stable Diffusion 3 has it."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=77,
        projection_dim=width,
        bos_token_id=vocab_size - 2,
        eos_token_id=vocab_size - 1,
        pad_token_id=vocab_size - 1,
    )
    return CLIPTextModelWithProjection(config)


def tiny_t5(vocab_size: int) -> Any:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=vocab_size,
        d_model=_T5_WIDTH,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )
    return T5EncoderModel(config)


def tiny_vae() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        sample_size=64,
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=16,
        layers_per_block=1,
        norm_num_groups=4,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
        force_upcast=True,
    )


def unigram_tokenizer(folder: Path) -> int:
    """Write T5's tokenizer files for a small vocabulary; return how many tokens it has.

    The order is T5's: padding, end, unknown, the pieces by how often they come, extra tokens.
    """
    from transformers import T5TokenizerFast

    pieces = ["▁", *(f"▁{word}" for word in _WORDS.split()), *_LETTERS, "ing", "er", "ed"]
    vocab = [(mark, 0.0) for mark in ("<pad>", "</s>", "<unk>")]
    vocab += [(piece, -math.log(rank)) for rank, piece in enumerate(pieces, start=2)]
    vocab += [(f"<extra_id_{i}>", 0.0) for i in (1, 0)]
    tokenizer = T5TokenizerFast(vocab=vocab, extra_ids=2, model_max_length=512)
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def random(build: Callable[..., Any], seed: int, *arguments: Any, **options: Any) -> Any:
    """A module from its own seed, with weights large enough for every input to be seen.

    What is initialised to zeros or ones, and what is small, would hide a mistake.
    """
    import torch

    torch.manual_seed(seed)
    module = build(*arguments, **options).eval()
    for parameter in module.parameters():
        spread = 0.1 if parameter.ndim == 1 else 0.05
        parameter.data.add_(torch.randn_like(parameter), alpha=spread)
    return module
