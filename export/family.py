"""The kinds of Stable Diffusion, and of each the numbers that no tensor's shape tells."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .weights import State

UNET = "model.diffusion_model."
_REST = {"unet": UNET, "vae": "first_stage_model."}
_CLIP = "cond_stage_model.transformer."
_OPEN_CLIP = "cond_stage_model.model."

_SD_PIPELINES = {
    4: "StableDiffusionPipeline",
    8: "StableDiffusionInstructPix2PixPipeline",
    9: "StableDiffusionInpaintPipeline",
}
_XL_PIPELINES = {4: "StableDiffusionXLPipeline", 9: "StableDiffusionXLInpaintPipeline"}


@dataclass(frozen=True)
class Family:
    """One kind of checkpoint in the original layout.

    prefixes: sub-model -> how the names of its weights begin.
    pipelines: channels that the UNet takes -> diffusers' class.
    size: side, in pixels, of the pictures that it was trained on.
    scaling_factor: latents are what the VAE's encoder gives times this.
    time_ids: numbers of size, crop and the like that an XL's UNet is told beside the prompt.
    """

    name: str
    prefixes: Mapping[str, str]
    pipelines: Mapping[int, str] = field(default_factory=lambda: _SD_PIPELINES)
    size: int = 512
    scaling_factor: float = 0.18215
    time_ids: int = 0


SD1 = Family("Stable Diffusion 1", {"text_encoder": _CLIP, **_REST})
SD2 = Family("Stable Diffusion 2", {"text_encoder": _OPEN_CLIP, **_REST})
XL = Family(
    "Stable Diffusion XL",
    {
        "text_encoder": "conditioner.embedders.0.transformer.",
        "text_encoder_2": "conditioner.embedders.1.model.",
        **_REST,
    },
    _XL_PIPELINES,
    size=1024,
    scaling_factor=0.13025,
    time_ids=6,
)
REFINER = Family(
    "Stable Diffusion XL's refiner",
    {"text_encoder_2": "conditioner.embedders.0.model.", **_REST},
    {4: "StableDiffusionXLImg2ImgPipeline"},
    size=1024,
    scaling_factor=0.13025,
    time_ids=5,
)
UPSCALER = Family(
    "Stable Diffusion's x4 upscaler",
    {"text_encoder": _OPEN_CLIP, **_REST},
    {7: "StableDiffusionUpscalePipeline"},
    scaling_factor=0.08333,
)

# The refiner's UNet attends to OpenCLIP bigG's 1280 values a token, the base's to those and CLIP's.
_REFINER_CONTEXT = 1280


def detect(state: State) -> Family:
    """Tell the kind of checkpoint from its UNet, and the two XLs from their text encoders."""
    if f"{UNET}label_emb.weight" in state:
        return UPSCALER
    if f"{UNET}label_emb.0.0.weight" in state:
        return _which_xl(state)
    projections = [key for key in state if key.startswith(UNET) and key.endswith("proj_in.weight")]
    # From version 2 on, attention is entered by a matrix; before, by a 1x1 convolution.
    return SD2 if projections and state[projections[0]].ndim == 2 else SD1


def _which_xl(state: State) -> Family:
    for key in state:
        if key.startswith(XL.prefixes["text_encoder_2"]):
            return XL
        if key.startswith(XL.prefixes["text_encoder"]):
            return XL
        if key.startswith(REFINER.prefixes["text_encoder_2"]):
            return REFINER
    contexts = [key for key in state if key.startswith(UNET) and key.endswith("attn2.to_k.weight")]
    is_refiner = bool(contexts) and state[contexts[0]].shape[1] == _REFINER_CONTEXT
    return REFINER if is_refiner else XL
