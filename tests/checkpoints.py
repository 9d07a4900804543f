"""Tiny Stable Diffusion checkpoints with random weights, in the very files of the big ones.

Plain functions, so that every room's tests, and a test that runs in another environment, can
build the same checkpoint. Needs torch, diffusers and transformers; seconds, not minutes.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

_WORDS = (
    "a an the of on in with and red green blue photo picture painting drawing apple cat dog tree "
    "house boat mountain background style watercolor"
)

_SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}


def tiny_stable_diffusion(
    folder: Path,
    *,
    seed: int = 0,
    prediction_type: str = "epsilon",
    dtype: str = "float32",
    variant: str | None = None,
    old_keys: bool = True,
    clip_vocabulary: bool = False,
    pipeline: str = "StableDiffusionPipeline",
    vae: Any = None,
    **unet_overrides: Any,
) -> Path:
    """Write a random checkpoint of Stable Diffusion's shape, about 3 M parameters, to `folder`.

    Pictures are 8 times the latents (four levels of 32 channels in the VAE), the UNet has three
    levels (32, 64, 64) with cross-attention on the upper two, the text encoder three layers of
    128. Heads and norm groups are those of Stable Diffusion 1, which no tensor's shape tells.
    `variant="fp16"` puts that word into the weight files' names, as the hub does. `old_keys`
    writes the text encoder's keys with the prefix `text_model.` that published checkpoints have
    and that transformers 5.6 dropped. `clip_vocabulary` takes CLIP's own 49408 tokens instead of
    some six hundred. `pipeline` is the class that model_index.json names, `vae` takes that one's
    place. `unet_overrides` are passed to UNet2DConditionModel: `in_channels=9` makes an
    inpainting UNet.
    """
    import torch

    folder = Path(folder)
    vocab_size = (clip_tokenizer if clip_vocabulary else bpe_tokenizer)(folder / "tokenizer")
    text_encoder = _random(lambda: tiny_text_encoder(vocab_size), seed)
    unet = _random(lambda: tiny_unet(**unet_overrides), seed)
    vae = vae or _random(tiny_vae, seed)
    for module in (text_encoder, unet, vae):
        for parameter in module.parameters():
            parameter.data = parameter.data.to(getattr(torch, dtype))
    for name, module in (("unet", unet), ("vae", vae)):
        module.save_pretrained(folder / name, variant=variant)
    _save_text_encoder(text_encoder, folder / "text_encoder", variant, old_keys)
    scheduler = _SCHEDULER | {"prediction_type": prediction_type}
    _write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    _write_json(
        folder / "model_index.json",
        {
            "_class_name": pipeline,
            "_diffusers_version": "0.6.0",
            "feature_extractor": [None, None],
            "requires_safety_checker": False,
            "safety_checker": [None, None],
            "scheduler": ["diffusers", scheduler["_class_name"]],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
    )
    return folder


def tiny_inpainting(folder: Path) -> Path:
    """A checkpoint as the hub has them for inpainting: a UNet of 9 channels."""
    pipeline = "StableDiffusionInpaintPipeline"
    return tiny_stable_diffusion(folder, in_channels=9, pipeline=pipeline, old_keys=False)


def tiny_pix2pix(folder: Path) -> Path:
    """A checkpoint that edits by instruction: a UNet of 8 channels."""
    pipeline = "StableDiffusionInstructPix2PixPipeline"
    return tiny_stable_diffusion(folder, in_channels=8, pipeline=pipeline, old_keys=False)


def tiny_controlnet(folder: Path, *, seed: int = 1, **overrides: Any) -> Path:
    """Write a random ControlNet for `tiny_unet`, as ControlNetModel.save_pretrained does.

    A new one adds nothing, its last convolutions being zero: here they are random too, and what
    it sees of the picture, which random layers let fade, is amplified.
    """
    import torch
    from diffusers import ControlNetModel

    settings = {
        "block_out_channels": (32, 64, 64),
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "layers_per_block": 1,
        "attention_head_dim": 8,
        "cross_attention_dim": 128,
        "norm_num_groups": 32,
        "conditioning_embedding_out_channels": (8, 8, 16, 16),
    }
    module = _random(lambda: ControlNetModel(**(settings | overrides)), seed)
    for parameter in module.parameters():
        if not parameter.any():
            parameter.data = torch.randn_like(parameter) * 0.1
    for parameter in module.controlnet_cond_embedding.parameters():
        if parameter.ndim == 4:
            parameter.data *= 3
    module.save_pretrained(folder)
    return Path(folder)


def tiny_upscaler(folder: Path, *, seed: int = 0) -> Path:
    """Write a random checkpoint of the x4 upscaler's shape, smaller still, to `folder`.

    As there the UNet takes 7 channels and a noise level, the VAE has three levels, and velocity
    is predicted. The VAE's config is of the older kind that does not say its scaling factor.
    """
    vae = {"sample_size": 32, "block_out_channels": (32, 32, 32)}
    tiny_stable_diffusion(
        folder,
        seed=seed,
        prediction_type="v_prediction",
        old_keys=False,
        pipeline="StableDiffusionUpscalePipeline",
        vae=_random(lambda: tiny_vae(**vae), seed),
        in_channels=7,
        num_class_embeds=1000,
        only_cross_attention=(False, True, False),
    )
    noising = {"_class_name": "DDPMScheduler", "beta_start": 0.0001, "beta_end": 0.02}
    noising |= {"beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
    _write_json(folder / "low_res_scheduler" / "scheduler_config.json", noising)
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    more = {"low_res_scheduler": ["diffusers", "DDPMScheduler"], "max_noise_level": 350}
    _write_json(folder / "model_index.json", index | more)
    config = json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8"))
    del config["scaling_factor"]
    _write_json(folder / "vae" / "config.json", config)
    return folder


def tiny_unet(**overrides: Any) -> Any:
    from diffusers import UNet2DConditionModel

    settings = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (32, 64, 64),
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "attention_head_dim": 8,
        "cross_attention_dim": 128,
        "norm_num_groups": 32,
    }
    return UNet2DConditionModel(**(settings | overrides))


def tiny_vae(sample_size: int = 64, block_out_channels: tuple[int, ...] = (32, 32, 32, 32)) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        sample_size=sample_size,
        block_out_channels=block_out_channels,
        down_block_types=("DownEncoderBlock2D",) * len(block_out_channels),
        up_block_types=("UpDecoderBlock2D",) * len(block_out_channels),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=32,
    )


def tiny_text_encoder(vocab_size: int) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=vocab_size,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=77,
        projection_dim=128,
        bos_token_id=vocab_size - 2,
        eos_token_id=vocab_size - 1,
        pad_token_id=vocab_size - 1,
    )
    return CLIPTextModel(config)


def safety_checker(seed: int = 0) -> Any:
    """A random safety checker, of pictures of 32x32."""
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    config = CLIPConfig(text_config={}, vision_config=vision, projection_dim=16)

    def build() -> Any:
        import torch

        checker = StableDiffusionSafetyChecker(config)
        for name in ("concept_embeds", "special_care_embeds"):
            getattr(checker, name).data = torch.randn_like(getattr(checker, name))
        return checker

    return _random(build, seed).eval()


def add_safety_checker(folder: Path, checker: Any) -> None:
    """Put one into a checkpoint, under the keys that the published ones have."""
    import torch
    from safetensors.torch import save_file

    weights = {}
    for key, value in checker.state_dict().items():
        bare = key.replace("vision_model.", "", 2) if "vision_model." in key else None
        weights[f"vision_model.vision_model.{bare}" if bare else key] = value.contiguous()
    weights["vision_model.vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    target = folder / "safety_checker"
    checker.config.save_pretrained(target)
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    preprocessor = {"crop_size": 32, "size": 32, "feature_extractor_type": "CLIPFeatureExtractor"}
    _write_json(folder / "feature_extractor" / "preprocessor_config.json", preprocessor)
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    _write_json(folder / "model_index.json", index)


def autoencoder_tiny(folder: Path, seed: int = 0) -> Path:
    """A random AutoencoderTiny for the latents of `tiny_vae`."""
    from diffusers import AutoencoderTiny

    def build() -> Any:
        return AutoencoderTiny(
            encoder_block_out_channels=(8,) * 4,
            decoder_block_out_channels=(8,) * 4,
            num_encoder_blocks=(1,) * 4,
            num_decoder_blocks=(1,) * 4,
        )

    _random(build, seed).save_pretrained(folder)
    return folder


def bpe_tokens() -> list[str]:
    """The small vocabulary of `bpe_tokenizer`, each token at its id.

    The order is CLIP's: 256 bytes, the same at the end of a word, the merges, start, end.
    """
    alphabet = _byte_alphabet()
    merged = ["".join(pair) for pair in _merges(_WORDS.split())]
    ends = [token + "</w>" for token in alphabet]
    return [*alphabet, *ends, *merged, "<|startoftext|>", "<|endoftext|>"]


def bpe_tokenizer(folder: Path) -> int:
    """Write CLIP's tokenizer files for a small vocabulary; return how many tokens it has."""
    tokens, merges = bpe_tokens(), _merges(_WORDS.split())
    folder = Path(folder)
    _write_json(folder / "vocab.json", {token: i for i, token in enumerate(tokens)})
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    _write_json(
        folder / "special_tokens_map.json",
        {
            "bos_token": "<|startoftext|>",
            "eos_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>",
            "unk_token": "<|endoftext|>",
        },
    )
    _write_json(
        folder / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            "bos_token": "<|startoftext|>",
            "do_lower_case": True,
            "eos_token": "<|endoftext|>",
            "errors": "replace",
            "model_max_length": 77,
            "pad_token": "<|endoftext|>",
            "tokenizer_class": "CLIPTokenizer",
            "unk_token": "<|endoftext|>",
        },
    )
    return len(tokens)


def clip_tokenizer(folder: Path) -> int:
    """Write the tokenizer of Stable Diffusion 1 itself."""
    from pleinair.export import tokenizer

    tokenizer.write_clip(folder)
    tokenizer.complete(folder, openvino=False)
    return tokenizer.CLIP_TOKENS


def compvis_state(folder: Path) -> dict[str, Any]:
    """Return a diffusers folder's weights under the names of the original layout.

    The VAE's attention becomes 1x1 convolutions and the schedule's buffers are there, as in the
    published files. That the names are right is for a test to show, with diffusers' converter.
    """
    import torch

    from pleinair.bench import single_file

    state = single_file.state(folder)
    positions = torch.arange(77)[None]
    state["cond_stage_model.transformer.text_model.embeddings.position_ids"] = positions
    return state | {name: torch.linspace(0, 1, 1000) for name in ("betas", "alphas_cumprod")}


def _byte_alphabet() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes, in CLIP's order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(hidden))]


def _merges(words: list[str]) -> list[tuple[str, str]]:
    """Merges that build each word from its left end, without repeats, in order of first use."""
    merges: dict[tuple[str, str], None] = {}
    for word in words:
        letters = [*word[:-1], word[-1] + "</w>"]
        start = letters[0]
        for letter in letters[1:]:
            merges[start, letter] = None
            start += letter
    return list(merges)


def _random(build: Callable[[], Any], seed: int) -> Any:
    """Build a module from its own seed, so that its weights do not depend on its neighbours.

    Norms and biases get random values too: among ones and zeros a mixed-up key goes unseen.
    """
    import torch

    torch.manual_seed(seed)
    module = build()
    for parameter in module.parameters():
        if parameter.ndim == 1:
            parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    return module


def _save_text_encoder(module: Any, folder: Path, variant: str | None, old_keys: bool) -> None:
    from safetensors.torch import save_file

    bare = {key.removeprefix("text_model."): value for key, value in module.state_dict().items()}
    weights = {f"text_model.{key}" if old_keys else key: value for key, value in bare.items()}
    folder.mkdir(parents=True, exist_ok=True)
    file = f"model.{variant}.safetensors" if variant else "model.safetensors"
    save_file(weights, folder / file, metadata={"format": "pt"})
    module.config.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    _write_json(folder / "config.json", config | {"architectures": ["CLIPTextModel"]})


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def values_of(module: Any) -> dict[str, Any]:
    """A loaded module's `state_dict`, with the values of weights that stay in their file."""
    from pleinair.export.stored_weight import StoredWeight

    kept = module.state_dict(keep_vars=True)
    return {
        key: value.read() if isinstance(value, StoredWeight) else value.detach()
        for key, value in kept.items()
    }
