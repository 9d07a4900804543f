"""The config.json of a model's parts, as far as the runtime reads them: types, ranges, refusals.

Everything else in these files (activations, normalization, kinds of blocks …) is in the graph
already, as it was exported.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from msgspec import Meta, Struct

from ..errors import BundleError, shown
from ..files import conform

Count: TypeAlias = Annotated[int, Meta(ge=1, le=1 << 16)]
"""Channels, values, tokens, cells: of the largest models some ten thousand."""
Few: TypeAlias = Annotated[int, Meta(ge=1, le=1000)]
"""Layers, heads, classes."""
Widths: TypeAlias = Annotated[list[Count], Meta(min_length=1, max_length=16)]
"""Channels of each level."""
Layers: TypeAlias = Few | Annotated[list[Few], Meta(min_length=1, max_length=16)]
"""Of every level, or of each."""
Sides: TypeAlias = Count | Annotated[list[Count], Meta(min_length=2, max_length=2)]
"""Height and width, or one number for both."""


class Channels(Struct):
    """Of a denoiser: by its inputs' channels families of one name are told apart."""

    in_channels: Count | None = None


class UNetConfig(Struct):
    """diffusers' UNet2DConditionModel. What an older folder does not say is None or diffusers'.

    sample_size: of the latents it was trained on. time_cond_proj_dim: values in which it is told
    its guidance scale. num_class_embeds: noise levels that an upscaler knows.
    """

    sample_size: Sides | None = None
    in_channels: Count | None = None
    out_channels: Count | None = None
    cross_attention_dim: Count | Widths | None = None
    block_out_channels: Widths | None = None
    layers_per_block: Layers | None = None
    down_block_types: Annotated[list[str], Meta(max_length=16)] | None = None
    time_cond_proj_dim: Count | None = None
    num_class_embeds: Count | None = None
    class_embed_type: str | None = None
    addition_embed_type: str | None = None
    addition_time_embed_dim: Count | None = None
    projection_class_embeddings_input_dim: Count | None = None
    encoder_hid_dim: Count | None = None
    encoder_hid_dim_type: str | None = None
    dual_cross_attention: bool | None = None

    @property
    def text_width(self) -> int | None:
        """Values a token of the prompt that it attends to; None where it does not say."""
        width = self.cross_attention_dim
        return width[0] if isinstance(width, list) else width

    def check_inputs(self, file: Path, **allowed: tuple[str | None, ...]) -> None:
        """Raise BundleError for a way to be told more than a family of models tells.

        allowed: other values than None that the family knows, by their field.
        """
        asks = {
            "class_embed_type": "image embeddings or other classes",
            "addition_embed_type": "sizes, pictures or a pooled text",
            "encoder_hid_dim_type": "a prompt or a picture projected another way",
            "dual_cross_attention": "two prompts at once",
        }
        for name, what in asks.items():
            value = getattr(self, name)
            if value and value not in allowed.get(name, ()):
                raise BundleError(
                    f"{file}: {name} is {shown(value)}: a UNet that is told {what}, which this "
                    "kind of model is not; it cannot be painted with"
                )
        widths = self.cross_attention_dim
        if isinstance(widths, list) and len(set(widths)) > 1:
            raise BundleError(
                f"{file}: cross_attention_dim is {shown(widths)}: levels that attend to prompts of "
                "different widths cannot be painted with"
            )


class TextConfig(Struct):
    """transformers' CLIPTextModel and T5EncoderModel (which says d_model)."""

    hidden_size: Count | None = None
    num_hidden_layers: Annotated[int, Meta(ge=0, le=1000)] | None = None
    projection_dim: Count | None = None
    d_model: Count | None = None


def read(config: Mapping[str, Any], shape: type[Any], folder: Path) -> Any:
    """A part's config.json as a `shape`; BundleError names the file and the field."""
    return conform(config, shape, folder / "config.json")
