"""Stable Diffusion XL and its refiner: two text encoders, and sizes beside the prompt."""

import dataclasses
from collections.abc import Mapping
from functools import partial

from pleinair.runtime.errors import SourceError

from ..architecture import Config
from ..graphs import unet
from ..reading import State
from .family import Configs, Family, GraphKind, Index, SubModel
from .original import UNET, VAE, Original, Task
from .stable_diffusion import (
    AUTOENCODER,
    SCHEDULER,
    TEXT_ENCODER,
    projected_text_encoder,
    require_latents,
)


def _complete(configs: Configs, index: Index, origin: str) -> None:
    """Add to the UNet's config the two facts that optimum keeps there for whoever reads it alone.

    Raises `SourceError` where the UNet has another place for them than the pipeline brings.
    """
    unet_config, width = configs["unet"], configs["text_encoder_2"].get("projection_dim", 512)
    aesthetic = bool(index.get("requires_aesthetics_score", False))
    if unet_config.get("addition_embed_type") != "text_time":
        raise SourceError(
            f"{origin}/unet has the addition_embed_type {unet_config.get('addition_embed_type')!r};"
            " Stable Diffusion XL's is 'text_time'"
        )
    beside = ("class_embed_type", "encoder_hid_dim", "encoder_hid_dim_type", "num_class_embeds")
    found = [name for name in beside if unet_config.get(name) is not None]
    if found:
        raise SourceError(
            f"{origin}/unet: has {', '.join(found)}, for which Stable Diffusion XL brings nothing; "
            "it cannot be exported"
        )
    require_latents(configs, origin)
    taken = unet_config.get("projection_class_embeddings_input_dim")
    brought = (unet_config.get("addition_time_embed_dim") or 0) * unet.time_ids(aesthetic) + width
    if taken != brought:
        raise SourceError(
            f"{origin}/unet takes {taken} values of "
            f"sizes and pooled prompt, and the pipeline brings {brought}: check projection_dim of "
            "text_encoder_2, and requires_aesthetics_score in model_index.json"
        )
    unet_config["text_encoder_projection_dim"] = width
    unet_config["requires_aesthetics_score"] = aesthetic


def _schedulers(prediction_type: str) -> dict[str, Config]:
    euler = {
        "_class_name": "EulerDiscreteScheduler",
        "interpolation_type": "linear",
        "timestep_spacing": "leading",
        "use_karras_sigmas": False,
    }
    return {"scheduler": SCHEDULER | euler}


def _time_embedding(aesthetic: bool, configs: Mapping[str, Config]) -> Config:
    """Tell how wide the embedding of each size is: all are in one row, behind the prompt's."""
    pooled = configs.get("text_encoder_2")
    if pooled is None:
        return {}
    row = configs["unet"]["projection_class_embeddings_input_dim"] - pooled["projection_dim"]
    return {"addition_time_embed_dim": row // unet.time_ids(aesthetic)}


_SIZES = f"{UNET}label_emb.0.0.weight"
# The refiner's UNet attends to OpenCLIP bigG's 1280 values a token, the base's to those and CLIP's.
_REFINER_CONTEXT = 1280

_FIRST = "conditioner.embedders.0.transformer."
_SECOND = "conditioner.embedders.1.model."
_REFINER_ONLY = "conditioner.embedders.0.model."


def _is_refiner(state: State) -> bool:
    """Tell the two by their text encoders, or by the UNet where the file has none."""
    for key in state:
        if key.startswith((_FIRST, _SECOND)):
            return False
        if key.startswith(_REFINER_ONLY):
            return True
    contexts = (key for key in state if key.startswith(UNET) and key.endswith("attn2.to_k.weight"))
    first = next(contexts, None)
    return first is not None and bool(state[first].shape[1] == _REFINER_CONTEXT)


XL = Original(
    "Stable Diffusion XL",
    fits=lambda state: _SIZES in state and not _is_refiner(state),
    prefixes={"text_encoder": _FIRST, "text_encoder_2": _SECOND, "unet": UNET, "vae": VAE},
    tasks={4: Task("StableDiffusionXLPipeline"), 9: Task("StableDiffusionXLInpaintPipeline")},
    schedulers=_schedulers,
    size=lambda prediction_type: 1024,
    scaling_factor=0.13025,
    normed=True,
    unet=partial(_time_embedding, False),
    settings={"force_zeros_for_empty_prompt": True},
)
REFINER = dataclasses.replace(
    XL,
    name="Stable Diffusion XL's refiner",
    fits=lambda state: _SIZES in state and _is_refiner(state),
    prefixes={"text_encoder_2": _REFINER_ONLY, "unet": UNET, "vae": VAE},
    tasks={4: Task("StableDiffusionXLImg2ImgPipeline")},
    unet=partial(_time_embedding, True),
    settings={"force_zeros_for_empty_prompt": False, "requires_aesthetics_score": True},
)

FAMILY = Family(
    "Stable Diffusion XL",
    pipelines=(
        "StableDiffusionXLPipeline",
        "StableDiffusionXLImg2ImgPipeline",
        "StableDiffusionXLInpaintPipeline",
    ),
    submodels={
        # The refiner has only the second.
        "text_encoder": dataclasses.replace(TEXT_ENCODER, optional=True),
        "text_encoder_2": projected_text_encoder("text_encoder_2", "tokenizer_2"),
        "unet": SubModel(
            "diffusers.UNet2DConditionModel", {"unet": GraphKind(unet.xl_unet, cost=2)}
        ),
        "vae": AUTOENCODER,
    },
    complete=_complete,
    originals=(XL, REFINER),
)
