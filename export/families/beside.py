"""What may stand beside the networks of any family: a safety checker, a tiny decoder."""

from typing import Any

from ..architecture import Config, published_config
from ..graphs import safety_checker, vae
from .family import GraphKind, SubModel


def _with_thresholds(module: Any, config: Config) -> Config:
    """Add the thresholds, which are weights, since a runtime decides by them."""
    names = ("concept_embeds_weights", "special_care_embeds_weights")
    thresholds = {name: getattr(module, name).tolist() for name in names}
    return published_config(module, config) | thresholds


SAFETY_CHECKER = SubModel(
    "diffusers.pipelines.stable_diffusion.StableDiffusionSafetyChecker",
    {"safety_checker": GraphKind(safety_checker.safety_checker)},
    optional=True,
    published=_with_thresholds,
)
TINY_VAE = SubModel(
    "diffusers.AutoencoderTiny",
    {"vae_decoder_tiny": GraphKind(vae.vae_decoder, cost=4)},
    optional=True,
)
