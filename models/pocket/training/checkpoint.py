"""Put the trained parts together as a diffusers folder, as `StableDiffusionPipeline` reads it."""

import json
import shutil
from pathlib import Path

from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from . import WORK


def noise_scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        prediction_type="epsilon",
        steps_offset=1,
        clip_sample=False,
        set_alpha_to_one=False,
    )


def save_checkpoint(folder: Path, text_encoder: CLIPTextModel, unet: UNet2DConditionModel) -> None:
    """Write the float32 folder of these parts, `work/vae` and `work/tokenizer`."""
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(WORK / "vae"),
        text_encoder=text_encoder,
        tokenizer=CLIPTokenizer.from_pretrained(WORK / "tokenizer"),
        unet=unet,
        scheduler=noise_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    save_pipeline(pipeline, folder)


def save_pipeline(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """`save_pretrained`, with the tokenizer's files as Stable Diffusion has them, and no paths.

    transformers 5 writes tokenizer.json only; Stable Diffusion's folder has vocab and merges.
    diffusers notes in every config which folder of this machine it was read from.
    """
    pipeline.save_pretrained(folder)
    for config in folder.rglob("*.json"):
        forget_origin(config)
    shutil.rmtree(folder / "tokenizer")
    shutil.copytree(WORK / "tokenizer", folder / "tokenizer")


def forget_origin(config: Path) -> None:
    """Take `_name_or_path` out of a config."""
    facts = json.loads(config.read_text("utf-8"))
    if facts.pop("_name_or_path", None) is not None:
        config.write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
