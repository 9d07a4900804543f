"""What Stable Diffusion XL's UNet must be told of the rest of its pipeline."""

from collections.abc import Mapping
from typing import Any

from pleinair.runtime.errors import SourceError

Config = dict[str, Any]


def time_ids(aesthetic: bool) -> int:
    """How many numbers of sizes the UNet sees: the refiner a score for a picture's target size."""
    return 5 if aesthetic else 6


def complete(configs: dict[str, Config], index: Mapping[str, Any], origin: str) -> None:
    """Add to the UNet's config the two facts that optimum keeps there for whoever reads it alone.

    Raises `SourceError` where the UNet has another place for them than the pipeline brings.
    """
    if "text_encoder_2" not in configs:
        return
    unet, width = configs["unet"], configs["text_encoder_2"].get("projection_dim", 512)
    aesthetic = bool(index.get("requires_aesthetics_score", False))
    if unet.get("addition_embed_type") != "text_time":
        raise SourceError(
            f"{origin}/unet has the addition_embed_type {unet.get('addition_embed_type')!r}; "
            "Stable Diffusion XL's is 'text_time'"
        )
    brought = unet["addition_time_embed_dim"] * time_ids(aesthetic) + width
    if unet["projection_class_embeddings_input_dim"] != brought:
        raise SourceError(
            f"{origin}/unet takes {unet['projection_class_embeddings_input_dim']} values of sizes "
            f"and pooled prompt, and the pipeline brings {brought}: check projection_dim of "
            "text_encoder_2, and requires_aesthetics_score in model_index.json"
        )
    unet["text_encoder_projection_dim"] = width
    unet["requires_aesthetics_score"] = aesthetic
