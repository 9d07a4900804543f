"""Tiny random checkpoints of UNets that blocks were taken out of: BK-SDM, SDXS, SSD-1B, Vega."""

from pathlib import Path
from typing import Any

from checkpoints import autoencoder_tiny, tiny_stable_diffusion
from checkpoints_xl import rewrite, tiny_stable_diffusion_2, tiny_stable_diffusion_xl

_NO_MIDDLE: dict[str, Any] = {"mid_block_type": None, "layers_per_block": 1}
_ATTENTION_EVERYWHERE = {
    "down_block_types": ("CrossAttnDownBlock2D",) * 3,
    "up_block_types": ("CrossAttnUpBlock2D",) * 3,
}


def tiny_bk_sdm_small(folder: Path) -> Path:
    """BK-SDM small's kind: Stable Diffusion 1 without a middle block."""
    return tiny_stable_diffusion(folder, old_keys=False, **_NO_MIDDLE)


def tiny_bk_sdm_tiny(folder: Path) -> Path:
    """BK-SDM tiny's kind, and segmind's tiny-sd: without the lowest level, too."""
    return tiny_stable_diffusion(folder, old_keys=False, **_NO_MIDDLE, **_ATTENTION_EVERYWHERE)


def tiny_sdxs(folder: Path) -> Path:
    """SDXS-512-0.9's kind: the text alone is attended to at the top, and the VAE is a tiny one."""
    from diffusers import AutoencoderTiny

    vae = AutoencoderTiny.from_pretrained(autoencoder_tiny(folder.parent / f"{folder.name}-vae"))
    top = {"only_cross_attention": (True, False, False)}
    tiny_stable_diffusion_2(folder, vae=vae, **_NO_MIDDLE, **_ATTENTION_EVERYWHERE, **top)
    _one_step(folder)
    return folder


def tiny_sdxs_dreamshaper(folder: Path) -> Path:
    """SDXS-512-DreamShaper's kind: nothing is attended to at the top."""
    from diffusers import AutoencoderTiny

    vae = AutoencoderTiny.from_pretrained(autoencoder_tiny(folder.parent / f"{folder.name}-vae"))
    blocks = {
        "down_block_types": ("DownBlock2D", *("CrossAttnDownBlock2D",) * 2),
        "up_block_types": (*("CrossAttnUpBlock2D",) * 2, "UpBlock2D"),
    }
    tiny_stable_diffusion(folder, old_keys=False, vae=vae, **_NO_MIDDLE, **blocks)
    _one_step(folder)
    return folder


def tiny_ssd_1b(folder: Path, **unet: Any) -> Path:
    """SSD-1B's and Vega's kind: XL with unlike attentions, and one ResNet in the middle."""
    return tiny_stable_diffusion_xl(
        folder,
        layers_per_block=2,
        mid_block_type="UNetMidBlock2D",
        transformer_layers_per_block=(0, (1, 2), (2, 1)),
        reverse_transformer_layers_per_block=((1, 2, 3), (2, 1, 1), 1),
        **unet,
    )


def tiny_lcm_ssd_1b(folder: Path) -> Path:
    """LCM-SSD-1B in its pipeline: a consistency model, its guidance scale an input of the UNet."""
    tiny_ssd_1b(folder, time_cond_proj_dim=32)
    lcm = {"_class_name": "LCMScheduler", "original_inference_steps": 50}
    rewrite(folder / "scheduler" / "scheduler_config.json", **lcm)
    rewrite(folder / "model_index.json", scheduler=["diffusers", lcm["_class_name"]])
    return folder


def _one_step(folder: Path) -> None:
    """As DreamShaper 8, and what was distilled from it, has its solver."""
    deis = {"_class_name": "DEISMultistepScheduler", "algorithm_type": "deis"}
    deis |= {"solver_order": 2, "solver_type": "logrho", "lower_order_final": True}
    rewrite(folder / "scheduler" / "scheduler_config.json", **deis)
    rewrite(
        folder / "model_index.json",
        scheduler=["diffusers", deis["_class_name"]],
        vae=["diffusers", "AutoencoderTiny"],
    )
