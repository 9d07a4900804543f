"""Stable Diffusion 1 and 2 [Rombach et al. 2022], latent consistency models and inpainting UNets.

Also what its relatives share with it: a UNet that attends to a prompt, and knows the timestep.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from PIL import Image

from ..adapters.inversion import Embedding, Words
from ..denoise.guidance import Guidance, checked, classifier_free, scale_embedding
from ..denoise.inpainting import TrainedInpainting
from ..denoise.start import Origin
from ..engines.protocol import Shapes
from ..errors import BundleError, Message, SettingError
from ..images.preview import LatentColours, signed
from ..model.bundle import Bundle
from ..model.configs import TextConfig
from ..model.controlnet import ControlNet
from ..model.footprint import Working, largest_attention, level_width
from ..options.groups import Picture
from ..schedulers import Scheduler
from ..schedulers.lcm import LCM
from ..text.chunks import chunks_of
from ..text.encoder import Encoder, TextEncoder, check_clip_skip
from ..text.tokenizer import ClipTokenizer
from .family import Array, Compiled, Encode, Family, cells, grey
from .settings import Settings

# By the scale of the VAE, fitted to what it paints.
_COLOURS: Mapping[float, LatentColours] = {
    0.18215: signed(
        [
            [0.3512, 0.2297, 0.3227],
            [0.3250, 0.4974, 0.2350],
            [-0.2829, 0.1762, 0.2721],
            [-0.2120, -0.2616, -0.7177],
        ],
        [0, 0, 0],
    )
}


class UNetFamily(Family):
    """A UNet that attends to what CLIP's text model makes of a prompt."""

    colours = _COLOURS

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.tokenizer = self.tokenizer_of(self.text_encoders[0], ClipTokenizer)

    @property
    def text_encoders(self) -> tuple[str, ...]:
        return ("text_encoder",)

    def check(self) -> None:
        folder, config = self.bundle.path / self.denoiser, self.config
        config.check_inputs(folder / "config.json", **self.told)
        stated = self.labelled or bool(self.bundle.config(self.denoiser))
        if stated and (config.num_class_embeds is not None) != self.labelled:
            raise BundleError(
                f"{folder}: takes {'no ' if self.labelled else ''}noise level "
                "(num_class_embeds), which is what upscalers do, and only they; take all parts "
                "from one model"
            )
        if config.out_channels not in (None, self.space.channels):
            raise BundleError(
                f"{folder / 'config.json'}: out_channels is {config.out_channels}: it predicts "
                f"more than the {self.space.channels} channels of the latents, which no solver "
                "here makes use of"
            )
        width, wanted = self._encoded_width, config.text_width
        if wanted is not None and width and wanted != width:
            raise BundleError(
                f"{self.bundle.path}: mismatched parts: the UNet attends to {wanted} values a "
                f"token, the text encoder gives {width}; take all parts from one model"
            )

    @functools.cached_property
    def _encoded_width(self) -> int:
        """Values that the text encoders give a token; 0 where one does not say."""
        texts = [self.read_config(part, TextConfig) for part in self.text_encoders]
        widths = [text.hidden_size for text in texts]
        return 0 if None in widths else sum(widths)

    told: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Other ways to be told something than by text that the UNet may have, by config's fields."""

    labelled: ClassVar[bool] = False
    """Whether the UNet is told a noise level by its number."""

    @property
    def cuts(self) -> int | None:  # type: ignore[override]
        """Skip connections: one of conv_in, one of each layer, one of each downsampler."""
        widths, layers = self.config.block_out_channels, self.config.layers_per_block
        if widths is None or layers is None:
            return None
        levels = len(widths)
        return levels + (layers * levels if isinstance(layers, int) else sum(layers))

    @property
    def guidance_width(self) -> int | None:
        """Values in which the UNet is told its guidance scale; None for those that compare."""
        width: int | None = self.config.time_cond_proj_dim
        return width

    @property
    def usual(self) -> dict[str, Any]:
        # diffusers' pipeline of latent consistency models; others with LCM's solver have an
        # LCM-LoRA merged into them, and guidance with it.
        if self.guidance_width is not None:
            return {"steps": 4, "guidance_scale": 8.5, "scheduler": "lcm"}
        if self.bundle.scheduler.get("_class_name") == "LCMScheduler":
            return {"steps": 4, "guidance_scale": 1.0, "scheduler": "lcm"}
        return super().usual

    def denoiser_inputs(self, rows: int, width: int, height: int) -> Shapes:
        _, _, *cells = self.space.shape(width, height)
        shapes: dict[str, Sequence[int]] = {
            "sample": (rows, self.in_channels, *cells),
            "encoder_hidden_states": (
                rows,
                self.tokenizer.max_length,
                self.config.text_width or self._encoded_width,
            ),
        }
        if self.guidance_width is not None:
            shapes["timestep_cond"] = (rows, self.guidance_width)
        return shapes

    def working(self, part: str, shapes: Shapes) -> Working:
        if not part.startswith(("unet", "controlnet")):
            return super().working(part, shapes)
        sample = shapes["sample"]
        values = cells(sample) * level_width(self.config.block_out_channels, 0, 320)
        attention = largest_attention(self.config.down_block_types or (), sample)
        return Working("denoiser", values, attention)

    def check_controlnet(self, net: ControlNet) -> None:
        net.check_fits(self.config, self.space.channels, self.bundle.name)

    def guidance(self, scale: float, options: Any) -> Guidance:
        if self.guidance_width is None:
            return classifier_free(scale)
        checked(scale, "guidance_scale")
        return Guidance()  # it was distilled into the UNet, which is told the scale

    def set_timesteps(self, scheduler: Scheduler, settings: Settings) -> None:
        if isinstance(scheduler, LCM) and settings.timesteps is None:
            scheduler.set_timesteps(settings.steps, settings.drawn_from)
        else:
            super().set_timesteps(scheduler, settings)

    def teach(self, embeddings: Sequence[Embedding]) -> Words:
        return self.tokenizer.learn(embeddings)

    def read(self, text: str, *, syntax: str, long_prompt: str, options: Any) -> Any:
        return chunks_of(self.tokenizer, text, syntax=syntax, long_prompt=long_prompt)

    def check_clip_skip(self, clip_skip: int | None) -> None:
        configs = map(self.bundle.config, self.text_encoders)
        check_clip_skip(clip_skip, configs, left=self.layers_left)

    def encoder(self, compiled: Compiled, options: Any) -> Encoder:
        return TextEncoder(compiled("text_encoder", self.token_shapes))

    @property
    def token_shapes(self) -> Shapes:
        """Of a text encoder's input."""
        return {"input_ids": (1, self.tokenizer.max_length)}

    def extra_inputs(self, settings: Settings, branch: str) -> dict[str, Array]:
        if self.guidance_width is None:
            return {}
        return {"timestep_cond": scale_embedding(settings.guidance_scale, self.guidance_width)}


class StableDiffusion(UNetFamily):
    """Versions 1 and 2; with a UNet of 9 channels they are made for inpainting."""

    name = "Stable Diffusion"
    class_names: ClassVar[tuple[str, ...]] = (
        "StableDiffusionPipeline",
        "StableDiffusionImg2ImgPipeline",
        "StableDiffusionInpaintPipeline",
        "StableDiffusionInpaintLegacyPipeline",
        "LatentConsistencyModelPipeline",
        "LatentConsistencyModelImg2ImgPipeline",
    )

    @classmethod
    def channels(cls, latents: int) -> tuple[int, ...]:
        return (latents, 2 * latents + 1)

    @property
    def inpaints(self) -> bool:
        """Whether the UNet sees a mask and what is around it, beside the latents."""
        return self.in_channels == 2 * self.space.channels + 1

    @property
    def task(self) -> str:  # type: ignore[override]
        return "inpainting" if self.inpaints else "text"

    def check_call(self, picture: Picture, options: Any) -> None:
        if self.inpaints and picture.mask_image is None:
            raise SettingError(
                Message(
                    "{0} is a model for inpainting: give {image}, and {mask_image}, which is white "
                    "where the picture is to be painted anew",
                    self.bundle.name,
                )
            )

    def draws_all_steps(self, scheduler: str | None, picture: Picture) -> bool:
        """Latent consistency models do, by a pipeline of their own in diffusers."""
        if self.guidance_width is None or picture.image is None or picture.mask_image is not None:
            return False
        named = self.bundle.scheduler.get("_class_name") == "LCMScheduler"
        return scheduler == "lcm" or (scheduler is None and named)

    def example_pictures(self, size: int) -> dict[str, Image.Image]:
        if not self.inpaints:
            return {}
        return {"image": grey(size), "mask_image": Image.new("L", (size, size), 255)}

    def origin(self, settings: Settings, encode: Encode) -> Origin:
        canvas = settings.canvas
        if not self.inpaints or canvas is None:
            return super().origin(settings, encode)
        picture = encode(canvas.pixels) if settings.strength < 1 else None
        mask = canvas.latent_mask(self.space.factor)
        masked = encode(canvas.masked_pixels)
        return TrainedInpainting(picture, masked, mask, settings.steps, settings.strength)
