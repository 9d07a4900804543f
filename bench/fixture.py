"""Checkpoints of a published model's exact shape with random weights: to measure, not to look at.

Speed and memory do not depend on the values, so the weights need not be downloaded, or accepted
under a licence, to measure what a model costs.
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pleinair.runtime.errors import ExportError

Config = dict[str, Any]

_WEIGHTS = {
    "text_encoder": "model.safetensors",
    "text_encoder_2": "model.safetensors",
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
}
# Published checkpoints keep this prefix; transformers 5.6 dropped it from the module.
_TEXT_PREFIX = "text_model."


@dataclass(frozen=True)
class Shape:
    """The configs of the networks, which fix every weight's size, and of the scheduler.

    text_encoder_2: Stable Diffusion XL's; None makes a Stable Diffusion 1.
    """

    text_encoder: Config
    unet: Config
    vae: Config
    scheduler: Config
    text_encoder_2: Config | None = None

    def networks(self) -> Iterator[tuple[str, Config]]:
        for name in _WEIGHTS:
            if getattr(self, name) is not None:
                yield name, getattr(self, name)


# Stable Diffusion v1.4 (Rombach et al. 2022), as its published configs say.
_SD_V1_4 = Shape(
    text_encoder={
        "architectures": ["CLIPTextModel"],
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "dropout": 0.0,
        "eos_token_id": 2,
        "hidden_act": "quick_gelu",
        "hidden_size": 768,
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
        "intermediate_size": 3072,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": 77,
        "model_type": "clip_text_model",
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "pad_token_id": 1,
        "projection_dim": 768,
        "vocab_size": 49408,
    },
    unet={
        "_class_name": "UNet2DConditionModel",
        "_diffusers_version": "0.2.2",
        "act_fn": "silu",
        "attention_head_dim": 8,
        "block_out_channels": [320, 640, 1280, 1280],
        "center_input_sample": False,
        "cross_attention_dim": 768,
        "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": 4,
        "layers_per_block": 2,
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-05,
        "norm_num_groups": 32,
        "out_channels": 4,
        "sample_size": 64,
        "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
    },
    vae={
        "_class_name": "AutoencoderKL",
        "_diffusers_version": "0.2.2",
        "act_fn": "silu",
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "in_channels": 3,
        "latent_channels": 4,
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "out_channels": 3,
        "sample_size": 512,
        "scaling_factor": 0.18215,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
    },
    scheduler={
        "_class_name": "PNDMScheduler",
        "_diffusers_version": "0.7.0.dev0",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "clip_sample": False,
        "num_train_timesteps": 1000,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "trained_betas": None,
    },
)
# LCM_Dreamshaper_v7 (Luo et al. 2023): v1.4 with a UNet that is told its guidance scale.
_LCM = replace(
    _SD_V1_4,
    unet=_SD_V1_4.unet | {"time_cond_proj_dim": 256},
    scheduler=_SD_V1_4.scheduler
    | {"_class_name": "LCMScheduler", "original_inference_steps": 50, "timestep_scaling": 10.0}
    | {"prediction_type": "epsilon", "set_alpha_to_one": True, "timestep_spacing": "leading"},
)
# The same kinds of layer in every place, but narrow: for tests, and to try a command out.
_TINY = replace(
    _SD_V1_4,
    text_encoder=_SD_V1_4.text_encoder
    | {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "projection_dim": 32}
    | {"num_attention_heads": 4},
    unet=_SD_V1_4.unet
    | {"block_out_channels": [32, 32, 64, 64], "cross_attention_dim": 32, "layers_per_block": 1}
    | {"sample_size": 8},
    vae=_SD_V1_4.vae
    | {"block_out_channels": [32, 32, 32, 32], "layers_per_block": 1, "sample_size": 64},
)
# Stable Diffusion XL base 1.0 (Podell et al. 2023), as its published configs say.
_SDXL = Shape(
    text_encoder=_SD_V1_4.text_encoder,
    text_encoder_2=_SD_V1_4.text_encoder
    | {"architectures": ["CLIPTextModelWithProjection"], "hidden_act": "gelu"}
    | {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32}
    | {"num_attention_heads": 20, "projection_dim": 1280},
    unet=_SD_V1_4.unet
    | {"block_out_channels": [320, 640, 1280], "cross_attention_dim": 2048, "sample_size": 128}
    | {"down_block_types": ["DownBlock2D", *["CrossAttnDownBlock2D"] * 2]}
    | {"up_block_types": [*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"]}
    | {"attention_head_dim": [5, 10, 20], "transformer_layers_per_block": [1, 2, 10]}
    | {"use_linear_projection": True, "addition_embed_type": "text_time"}
    | {"addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816},
    vae=_SD_V1_4.vae | {"sample_size": 1024, "scaling_factor": 0.13025, "force_upcast": True},
    scheduler=_SD_V1_4.scheduler
    | {"_class_name": "EulerDiscreteScheduler", "interpolation_type": "linear"}
    | {"timestep_spacing": "leading", "use_karras_sigmas": False},
)
_TINY_XL = replace(
    _SDXL,
    text_encoder=_TINY.text_encoder,
    text_encoder_2=_TINY.text_encoder
    | {"architectures": ["CLIPTextModelWithProjection"], "hidden_act": "gelu"},
    unet=_SDXL.unet
    | {"block_out_channels": [32, 32, 64], "cross_attention_dim": 64, "layers_per_block": 1}
    | {"attention_head_dim": [2, 2, 4], "transformer_layers_per_block": [1, 1, 2]}
    | {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 80}
    | {"sample_size": 8},
    vae=_TINY.vae | {"scaling_factor": 0.13025, "force_upcast": True},
)
_TINY_LCM = replace(_TINY, unet=_TINY.unet | {"time_cond_proj_dim": 32}, scheduler=_LCM.scheduler)
# madebyollin/taesd, the tiny autoencoder for Stable Diffusion 1's latents, as its config says.
_TAESD: Config = {
    "_class_name": "AutoencoderTiny",
    "_diffusers_version": "0.20.0.dev0",
    "act_fn": "relu",
    "decoder_block_out_channels": [64] * 4,
    "encoder_block_out_channels": [64] * 4,
    "force_upcast": False,
    "in_channels": 3,
    "latent_channels": 4,
    "latent_magnitude": 3,
    "latent_shift": 0.5,
    "num_decoder_blocks": [3, 3, 3, 1],
    "num_encoder_blocks": [1, 3, 3, 3],
    "out_channels": 3,
    "scaling_factor": 1.0,
    "upsampling_scaling_factor": 2,
}
# Stable Diffusion 2.1 (Rombach et al. 2022) as SD-Turbo (Sauer et al. 2023) has it: OpenCLIP's text
# encoder, heads of 64, one step from the very end of the noise.
_SD_TURBO = replace(
    _SD_V1_4,
    text_encoder=_SD_V1_4.text_encoder
    | {"hidden_act": "gelu", "hidden_size": 1024, "intermediate_size": 4096}
    | {"num_attention_heads": 16, "num_hidden_layers": 23, "projection_dim": 512},
    unet=_SD_V1_4.unet
    | {"attention_head_dim": [5, 10, 20, 20], "cross_attention_dim": 1024}
    | {"use_linear_projection": True},
    scheduler=_SD_V1_4.scheduler
    | {"_class_name": "EulerDiscreteScheduler", "interpolation_type": "linear"}
    | {"prediction_type": "epsilon", "timestep_spacing": "trailing"},
)
# Block-removed Stable Diffusion v1.4 (Kim et al. 2023): one ResNet a block less everywhere; small
# has no middle block, tiny no lowest level either. segmind's small-sd and tiny-sd have the shapes
# of base and tiny.
_BK_SDM_BASE = replace(_SD_V1_4, unet=_SD_V1_4.unet | {"layers_per_block": 1})
_BK_SDM_SMALL = replace(_BK_SDM_BASE, unet=_BK_SDM_BASE.unet | {"mid_block_type": None})
_BK_SDM_TINY = replace(
    _BK_SDM_SMALL,
    unet=_BK_SDM_SMALL.unet
    | {"block_out_channels": [320, 640, 1280]}
    | {"down_block_types": ["CrossAttnDownBlock2D"] * 3}
    | {"up_block_types": ["CrossAttnUpBlock2D"] * 3},
)
_DEIS = _SD_V1_4.scheduler | {
    "_class_name": "DEISMultistepScheduler",
    "algorithm_type": "deis",
    "prediction_type": "epsilon",
    "solver_order": 2,
    "solver_type": "logrho",
}
# SDXS-512 (Song et al. 2024), which paints in one step: the tiny UNet without self-attention where
# it is highest. 0.9 has Stable Diffusion 2's text encoder, and looks at the text twice there.
_SDXS = replace(
    _SD_TURBO,
    unet=_BK_SDM_TINY.unet
    | {"attention_head_dim": [5, 10, 20], "cross_attention_dim": 1024}
    | {"only_cross_attention": [True, False, False], "use_linear_projection": True},
    vae=_TAESD,
    scheduler=_DEIS,
)
_SDXS_DREAMSHAPER = replace(
    _BK_SDM_TINY,
    unet=_BK_SDM_TINY.unet
    | {"down_block_types": ["DownBlock2D", *["CrossAttnDownBlock2D"] * 2]}
    | {"up_block_types": [*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"]},
    vae=_TAESD,
    scheduler=_DEIS,
)
# segmind's SSD-1B and Vega (Gupta et al. 2024): XL with fewer transformers, and one ResNet in the
# middle. Levels are named from the picture down, and in reverse from the middle up.
_SSD_1B = replace(
    _SDXL,
    unet=_SDXL.unet
    | {"mid_block_type": "UNetMidBlock2D", "transformer_layers_per_block": [0, [2, 2], [4, 4]]}
    | {"reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], 1]},
)
_VEGA = replace(
    _SSD_1B,
    unet=_SSD_1B.unet
    | {"transformer_layers_per_block": [0, [1, 1], [2, 2]]}
    | {"reverse_transformer_layers_per_block": [[2, 2, 2], [1, 1, 1], 1]},
)
SHAPES = {
    "sd-v1.4": _SD_V1_4,
    "lcm": _LCM,
    "sd-turbo": _SD_TURBO,
    "sdxl": _SDXL,
    "bk-sdm-base": _BK_SDM_BASE,
    "bk-sdm-small": _BK_SDM_SMALL,
    "bk-sdm-tiny": _BK_SDM_TINY,
    "sdxs": _SDXS,
    "sdxs-dreamshaper": _SDXS_DREAMSHAPER,
    "ssd-1b": _SSD_1B,
    "vega": _VEGA,
    "tiny": _TINY,
    "tiny-lcm": _TINY_LCM,
    "tiny-xl": _TINY_XL,
}
TINY_VAES = {"taesd": _TAESD}


def add_to(commands: Any) -> None:
    about = "make a random checkpoint of a published model's exact shape"
    parser = commands.add_parser("fixture", help=about, description=about)
    parser.add_argument(
        "folder", nargs="?", type=Path, help="folder to make (default: bench/work/SHAPE-shape)"
    )
    parser.add_argument(
        "--shape",
        choices=[*SHAPES, *TINY_VAES],
        default="sd-v1.4",
        help="a model's, or for `pleinair-export --tiny-vae` that of taesd (default: sd-v1.4)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the weights (default: 0)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from .progress import bars

    folder = options.folder or Path("bench") / "work" / f"{options.shape}-shape"
    if options.shape in TINY_VAES:
        write_tiny_vae(folder, TINY_VAES[options.shape], options.seed)
        print(folder)
        return 0
    with bars() as progress:
        task = progress.add_task("reading the shape", total=1.0)
        write(
            folder,
            SHAPES[options.shape],
            options.seed,
            lambda what, share: progress.update(task, description=what, completed=share),
        )
    print(folder)
    return 0


def write(folder: Path, shape: Shape, seed: int = 0, report: Any = lambda *_: None) -> None:
    """Write `shape` as a diffusers folder with float16 weights; the same seed, the same bytes.

    report: called with (what is being done, share done).
    Raises ExportError where the folder exists, cannot be written or does not fit on the disk.
    """
    from pleinair.export import architecture
    from pleinair.export.folder import publishing, require_space
    from pleinair.export.manifest import write_json

    if folder.exists():
        raise ExportError(f"{folder} exists; remove it or choose another folder")
    networks = skeletons(shape)
    sizes = {name: architecture.count_parameters(module) for name, module in networks.items()}
    require_space(folder, 2 * sum(sizes.values()) + 16_000_000)
    with publishing(folder) as target:
        done = 0
        for name, config in shape.networks():
            report(f"{name}: {sizes[name] / 1e6:,.0f} M random weights", done / sum(sizes.values()))
            write_json(target / name / "config.json", config)
            _write_weights(target / name / _WEIGHTS[name], networks[name], name, seed)
            done += sizes[name]
        report("tokenizer", 1.0)
        for number in ("", "_2") if shape.text_encoder_2 else ("",):
            _write_tokenizer(target / f"tokenizer{number}")
        write_json(target / "scheduler" / "scheduler_config.json", shape.scheduler)
        write_json(target / "model_index.json", _index(shape))


def skeletons(shape: Shape) -> dict[str, Any]:
    """Its networks by name, without weights: shapes on torch's meta device."""
    from pleinair.export import architecture, families

    index = _index(shape)
    submodels = families.of(index, "the fixture").present(index)
    return {name: architecture.build(submodels[name].cls, c, name) for name, c in shape.networks()}


def write_tiny_vae(folder: Path, config: Config, seed: int = 0) -> None:
    """Write an AutoencoderTiny of that config with float16 weights, as `write` does a model."""
    from pleinair.export import architecture
    from pleinair.export.families.beside import TINY_VAE
    from pleinair.export.folder import publishing
    from pleinair.export.manifest import write_json

    if folder.exists():
        raise ExportError(f"{folder} exists; remove it or choose another folder")
    skeleton = architecture.build(TINY_VAE.cls, config, "tiny_vae")
    with publishing(folder) as target:
        write_json(target / "config.json", config)
        _write_weights(target / _WEIGHTS["vae"], skeleton, "tiny_vae", seed)


def _write_weights(file: Path, skeleton: Any, name: str, seed: int) -> None:
    """One network at a time is in memory, and that in half precision."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(seed)
    # The second one's module still has the prefix, beside a projection without it.
    prefix = _TEXT_PREFIX if name == "text_encoder" else ""
    weights = {
        prefix + key.removeprefix(prefix): _random(key, parameter.shape, generator)
        for key, parameter in skeleton.named_parameters()
    }
    save_file(weights, file, metadata={"format": "pt"})


def _random(key: str, shape: Any, generator: Any) -> Any:
    """Uniform in ±1/sqrt(fan_in), torch's own default: activations keep their size over layers.

    A norm's scale stays near one, for the same reason.
    """
    import torch

    values = torch.empty(shape).uniform_(-1, 1, generator=generator)
    if len(shape) > 1:
        values /= math.sqrt(values[0].numel())
    else:
        values *= 0.05
        if "norm" in key and key.endswith(".weight"):
            values += 1
    return values.half()


def _write_tokenizer(folder: Path) -> None:
    from pleinair.export import tokenizer

    folder.mkdir()
    tokenizer.write_clip(folder)
    tokenizer.complete(folder, openvino=False)


_SD_INDEX: Config = {
    "_class_name": "StableDiffusionPipeline",
    "requires_safety_checker": False,
    "safety_checker": [None, None],
}
_LCM_INDEX: Config = _SD_INDEX | {"_class_name": "LatentConsistencyModelPipeline"}
_XL_INDEX: Config = {
    "_class_name": "StableDiffusionXLPipeline",
    "force_zeros_for_empty_prompt": True,
    "image_encoder": [None, None],
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "tokenizer_2": ["transformers", "CLIPTokenizer"],
}


def _index(shape: Shape) -> Config:
    own = _LCM_INDEX if "time_cond_proj_dim" in shape.unet else _SD_INDEX
    return (own if shape.text_encoder_2 is None else _XL_INDEX) | {
        "_diffusers_version": "0.2.2",
        "feature_extractor": [None, None],
        "scheduler": ["diffusers", shape.scheduler["_class_name"]],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", shape.vae["_class_name"]],
    }
