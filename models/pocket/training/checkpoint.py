"""Put the trained parts together as a diffusers folder, as `StableDiffusionPipeline` reads it."""

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
    StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(WORK / "vae"),
        text_encoder=text_encoder,
        tokenizer=CLIPTokenizer.from_pretrained(WORK / "tokenizer"),
        unet=unet,
        scheduler=noise_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    # transformers 5 writes tokenizer.json only; Stable Diffusion's folder has vocab and merges.
    shutil.rmtree(folder / "tokenizer")
    shutil.copytree(WORK / "tokenizer", folder / "tokenizer")
