"""Stable Diffusion's x4 upscaler: a small picture beside the latents, and how noisy it is."""

from pleinair.runtime.errors import SourceError

from ..architecture import Config
from ..graphs import unet
from .family import Configs, Family, GraphKind, Index, SubModel
from .original import OPEN_CLIP, UNET, VAE, Original, Task
from .stable_diffusion import AUTOENCODER, SCHEDULER, TEXT_ENCODER

_COLOURS = 3


def _check(configs: Configs, index: Index, origin: str) -> None:
    """Refuse an upscaler that the runtime could not feed.

    Its UNet sees the small picture's three colours beside the latents, and is told by its
    `class_labels` how much noise is on them.
    """
    unet, latents = configs["unet"], configs["vae"].get("latent_channels", 4)
    if unet.get("num_class_embeds") is None or unet.get("class_embed_type") is not None:
        raise SourceError(
            f"{origin}/unet: an upscaler's takes noise levels by number (num_class_embeds), "
            "this one does not; only x4 upscalers of Stable Diffusion 2's kind can be exported"
        )
    if unet.get("in_channels") != latents + _COLOURS:
        raise SourceError(
            f"{origin}/unet: takes {unet.get('in_channels')} channels; an upscaler's takes "
            f"{latents + _COLOURS}, the VAE's {latents} and the picture's {_COLOURS}"
        )


# It is the one model that was trained on another schedule.
_BETAS = SCHEDULER | {"beta_start": 0.0001, "beta_end": 0.02}


def _schedulers(prediction_type: str) -> dict[str, Config]:
    return {
        "scheduler": _BETAS | {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"},
        # Of the small picture beside its latents [CompVis' x4-upscaling.yaml].
        "low_res_scheduler": _BETAS | {"_class_name": "DDPMScheduler"},
    }


UPSCALER = Original(
    "Stable Diffusion's x4 upscaler",
    fits=lambda state: f"{UNET}label_emb.weight" in state,
    prefixes={"text_encoder": OPEN_CLIP, "unet": UNET, "vae": VAE},
    tasks={7: Task("StableDiffusionUpscalePipeline", "v_prediction")},
    schedulers=_schedulers,
    scaling_factor=0.08333,
    penultimate=True,
    settings={"max_noise_level": 350, "safety_checker": [None, None]},
)

FAMILY = Family(
    "Stable Diffusion's x4 upscaler",
    pipelines=("StableDiffusionUpscalePipeline",),
    submodels={
        "text_encoder": TEXT_ENCODER,
        "unet": SubModel(
            "diffusers.UNet2DConditionModel", {"unet": GraphKind(unet.upscaling_unet, cost=2)}
        ),
        "vae": AUTOENCODER,
    },
    complete=_check,
    schedulers=("scheduler", "low_res_scheduler"),
    settings={"requires_safety_checker": False},
    originals=(UPSCALER,),
)
