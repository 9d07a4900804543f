"""Stable Diffusion 1 and 2: text to image, inpainting, editing by instruction, few steps."""

from dataclasses import replace

from pleinair.runtime.errors import SourceError
from pleinair.runtime.text.tokenizer import ClipTokenizer

from .. import tokenizer
from ..architecture import Config
from ..graphs import clip, unet, vae
from ..reading import State
from .family import Configs, Family, GraphKind, Index, SubModel, Tokenizer
from .original import CLIP, OPEN_CLIP, UNET, VAE, Original, Task


def clip_tokenizer(folder: str) -> Tokenizer:
    """That of one of CLIP's text encoders."""
    return Tokenizer(folder, tokenizer.copy, tokenizer.complete, ClipTokenizer.fitting)


TEXT_ENCODER = SubModel(
    "transformers.CLIPTextModel",
    {"text_encoder": GraphKind(clip.text_encoder)},
    tokenizer=clip_tokenizer("tokenizer"),
)


def projected_text_encoder(name: str, tokenizer_folder: str) -> SubModel:
    """A CLIP of which the pooled prompt is read too, as XL's second and both of version 3 are."""
    return SubModel(
        "transformers.CLIPTextModelWithProjection",
        {name: GraphKind(clip.projected_text_encoder)},
        tokenizer=clip_tokenizer(tokenizer_folder),
    )


# The VAE of models distilled for speed, as SDXS-512; beside another it is `beside.TINY_VAE`.
_TINY_AUTOENCODER = SubModel(
    "diffusers.AutoencoderTiny",
    {
        "vae_decoder": GraphKind(vae.vae_decoder, cost=4),
        "vae_encoder": GraphKind(vae.tiny_vae_encoder, cost=4),
    },
)
AUTOENCODER = SubModel(
    "diffusers.AutoencoderKL",
    {
        "vae_decoder": GraphKind(vae.vae_decoder, cost=4),
        "vae_encoder": GraphKind(vae.vae_encoder, cost=4),
    },
    instead=(_TINY_AUTOENCODER,),
)

# Conditions that a UNet of another family sees; the pipelines of this one have none to give.
_CONDITIONS = (
    "addition_embed_type",
    "class_embed_type",
    "encoder_hid_dim",
    "encoder_hid_dim_type",
    "num_class_embeds",
)


def _check(configs: Configs, index: Index, origin: str) -> None:
    found = [name for name in _CONDITIONS if configs["unet"].get(name) is not None]
    if found:
        raise SourceError(
            f"{origin}/unet: has {', '.join(found)}, for which a {index['_class_name']} brings "
            "nothing; it cannot be exported"
        )
    require_latents(configs, origin)


def require_latents(configs: Configs, origin: str) -> None:
    """Raise `SourceError` where the UNet predicts other latents than its VAE's, or other text."""
    predicted, latents = configs["unet"].get("out_channels", 4), configs["vae"]
    if predicted != latents.get("latent_channels", 4):
        raise SourceError(
            f"{origin}: the UNet predicts {predicted} channels and the VAE's latents have "
            f"{latents.get('latent_channels', 4)}; take both from one model"
        )


SCHEDULER: Config = {
    "_class_name": "PNDMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}


def _schedulers(prediction_type: str) -> dict[str, Config]:
    if prediction_type == "epsilon":
        return {"scheduler": SCHEDULER}
    return {"scheduler": SCHEDULER | {"_class_name": "DDIMScheduler"}}  # as 2 is published


_PIX2PIX = Task("StableDiffusionInstructPix2PixPipeline")
_INPAINT = Task("StableDiffusionInpaintPipeline")
_UNGUARDED = {"safety_checker": [None, None]}


def _enters_by_a_matrix(state: State) -> bool:
    """From version 2 on, attention is entered by a matrix; before, by a 1x1 convolution."""
    projections = (key for key in state if key.startswith(UNET) and key.endswith("proj_in.weight"))
    first = next(projections, None)
    return first is not None and state[first].ndim == 2


def _sees_text_alone(state: State) -> bool:
    return not {f"{UNET}label_emb.weight", f"{UNET}label_emb.0.0.weight"} & state.keys()


_SGM_OPEN_CLIP = "conditioner.embedders.0.model."


def _is_sgm(state: State) -> bool:
    """Whether the text encoder has the name that Stability AI's later files give it."""
    return any(key.startswith(_SGM_OPEN_CLIP) for key in state)


SD1 = Original(
    "Stable Diffusion 1",
    fits=lambda state: _sees_text_alone(state) and not _enters_by_a_matrix(state),
    prefixes={"text_encoder": CLIP, "unet": UNET, "vae": VAE},
    tasks={
        4: Task("StableDiffusionPipeline", guided="LatentConsistencyModelPipeline"),
        8: _PIX2PIX,
        9: _INPAINT,
    },
    schedulers=_schedulers,
    settings=_UNGUARDED,
)
SD2 = Original(
    "Stable Diffusion 2",
    fits=lambda state: (
        _sees_text_alone(state) and _enters_by_a_matrix(state) and not _is_sgm(state)
    ),
    prefixes={"text_encoder": OPEN_CLIP, "unet": UNET, "vae": VAE},
    tasks={
        4: Task(
            "StableDiffusionPipeline",
            "v_prediction",
            "%s is Stable Diffusion 2, taken for a 768 model (v_prediction); for a base model of "
            "512 pixels add --prediction-type epsilon",
        ),
        8: _PIX2PIX,
        9: _INPAINT,
    },
    schedulers=_schedulers,
    size=lambda prediction_type: 768 if prediction_type == "v_prediction" else 512,
    penultimate=True,
    settings=_UNGUARDED,
)

SD_TURBO = replace(
    SD2,
    name="SD-Turbo",
    fits=lambda state: _sees_text_alone(state) and _enters_by_a_matrix(state) and _is_sgm(state),
    prefixes={"text_encoder": _SGM_OPEN_CLIP, "unet": UNET, "vae": VAE},
    tasks={4: Task("StableDiffusionPipeline")},
    few_steps=1,
)

FAMILY = Family(
    "Stable Diffusion",
    pipelines=(
        "StableDiffusionPipeline",
        "StableDiffusionImg2ImgPipeline",
        "StableDiffusionInpaintPipeline",
        "StableDiffusionInpaintPipelineLegacy",
        "StableDiffusionInstructPix2PixPipeline",
        "LatentConsistencyModelPipeline",
        "LatentConsistencyModelImg2ImgPipeline",
    ),
    submodels={
        "text_encoder": TEXT_ENCODER,
        "unet": SubModel("diffusers.UNet2DConditionModel", {"unet": GraphKind(unet.unet, cost=2)}),
        "vae": AUTOENCODER,
    },
    complete=_check,
    settings={"requires_safety_checker": False},
    originals=(SD1, SD2, SD_TURBO),
)
