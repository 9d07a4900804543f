"""Stable Diffusion 3 and 3.5: two CLIPs, T5 or none, and a transformer for flow matching."""

from pleinair.runtime.errors import SourceError
from pleinair.runtime.text.t5 import T5Tokenizer

from .. import t5_tokenizer
from ..graphs import mmdit, t5
from .family import Configs, Family, GraphKind, Index, SubModel, Tokenizer
from .stable_diffusion import AUTOENCODER, projected_text_encoder


def _check(configs: Configs, index: Index, origin: str) -> None:
    """Refuse text encoders that give other widths than the transformer takes."""
    transformer = configs["transformer"]
    attended = transformer.get("joint_attention_dim", 4096)  # diffusers' default
    clips = [configs["text_encoder"], configs["text_encoder_2"]]  # transformers' defaults: 512
    pooled = sum(clip.get("projection_dim", 512) for clip in clips)
    tokens = sum(clip.get("hidden_size", 512) for clip in clips)
    width = configs.get("text_encoder_3", {}).get("d_model", attended)
    wanted = transformer.get("pooled_projection_dim", 2048), attended
    if (pooled, width) != wanted or tokens > width:
        raise SourceError(
            f"{origin}/transformer attends to {wanted[1]} values a token and {wanted[0]} of the "
            f"prompt; the text encoders give {max(width, tokens)} and {pooled}: take all parts "
            "from one model"
        )


FAMILY = Family(
    "Stable Diffusion 3",
    pipelines=(
        "StableDiffusion3Pipeline",
        "StableDiffusion3Img2ImgPipeline",
        "StableDiffusion3InpaintPipeline",
    ),
    submodels={
        "text_encoder": projected_text_encoder("text_encoder", "tokenizer"),
        "text_encoder_2": projected_text_encoder("text_encoder_2", "tokenizer_2"),
        # Most of the weights; people do without it.
        "text_encoder_3": SubModel(
            "transformers.T5EncoderModel",
            {"text_encoder_3": GraphKind(t5.t5_encoder)},
            tokenizer=Tokenizer(
                "tokenizer_3", t5_tokenizer.copy, t5_tokenizer.complete, T5Tokenizer.fitting
            ),
            optional=True,
        ),
        "transformer": SubModel(
            "diffusers.SD3Transformer2DModel", {"transformer": GraphKind(mmdit.mmdit, cost=2)}
        ),
        "vae": AUTOENCODER,
    },
    complete=_check,
)
