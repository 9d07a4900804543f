"""Stable Diffusion 3 and 3.5 [Esser et al. 2024, arXiv 2403.03206]: a transformer, flow matching.

Text and patches of the latents attend to one another in one sequence. Of the three text encoders
the third, T5, is most of the weights, and a folder may be without it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import Struct

from ..adapters.inversion import Embedding, Words
from ..engines.protocol import Shapes
from ..errors import AdapterError, BundleError
from ..model.bundle import Bundle
from ..model.configs import Count, Few, Sides, TextConfig
from ..model.footprint import Working
from ..model.latent_space import SHIFT
from ..options.option import option
from ..schedulers import Scheduler
from ..schedulers.flow_match_euler import FlowMatchEuler
from ..text.chunks import ChunkedText, chunks_of
from ..text.encoder import Encoder, check_clip_skip
from ..text.stable_diffusion_3 import TripleText, TripleTextEncoder
from ..text.t5 import LONGEST, MAX_SEQUENCE_LENGTH, T5Tokenizer, check_length
from ..text.tokenizer import ClipTokenizer, TextTokenizer
from ..text.xl import PairedText, check_pair
from .family import Compiled, Family
from .settings import Settings

_CLIPS = ("text_encoder", "text_encoder_2")
_T5 = "text_encoder_3"


class TransformerConfig(Struct):
    """diffusers' SD3Transformer2DModel; what has no default here has to be said.

    pos_embed_max_size: the most patches along a side.
    """

    attention_head_dim: Few
    joint_attention_dim: Count
    num_attention_heads: Few
    patch_size: Few
    pooled_projection_dim: Count
    pos_embed_max_size: Count
    in_channels: Count | None = None
    out_channels: Count | None = None
    sample_size: Sides | None = None


@dataclass(frozen=True, kw_only=True)
class SequenceLength:
    """How much of a prompt T5 reads at once."""

    max_sequence_length: int | None = option(
        "--max-sequence-length",
        metavar="TOKENS",
        help=f"Stable Diffusion 3: tokens that T5 reads at once, 2 to {LONGEST}; fewer are faster "
        f"(default: {MAX_SEQUENCE_LENGTH})",
        most=LONGEST,
    )


class StableDiffusion3(Family):
    """Two CLIPs, T5 or none, and a transformer that sees their tokens beside its own patches."""

    name = "Stable Diffusion 3"
    class_names = (
        "StableDiffusion3Pipeline",
        "StableDiffusion3Img2ImgPipeline",
        "StableDiffusion3InpaintPipeline",
    )
    denoiser = "transformer"
    sample = "hidden_states"
    options = SequenceLength
    config_shape = TransformerConfig
    cells = 128
    latents = SHIFT
    adaptable = False
    layers_left = 2

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        clips = [self.tokenizer_of(part, ClipTokenizer) for part in _CLIPS]
        self.tokenizer, self.tokenizer_2 = clips
        check_pair(*clips)
        self.t5_tokenizer = self.tokenizer_of(_T5, T5Tokenizer) if self.has_t5 else None

    @property
    def has_t5(self) -> bool:
        """Whether the folder has the third text encoder, or says so and lacks it."""
        return self.bundle.has(_T5) or self.bundle.index.get(_T5) not in (None, [None, None])

    @property
    def text_encoders(self) -> tuple[str, ...]:
        return (*_CLIPS, _T5) if self.has_t5 else _CLIPS

    def check(self) -> None:
        if self.config.out_channels not in (None, self.space.channels):
            raise BundleError(
                f"{self.bundle.path / self.denoiser / 'config.json'}: out_channels is "
                f"{self.config.out_channels}, and the latents have {self.space.channels} channels; "
                "take all parts from one model"
            )
        clips = [self.read_config(part, TextConfig) for part in _CLIPS]
        t5 = self.read_config(_T5, TextConfig)
        pooled = sum(clip.projection_dim or 0 for clip in clips)
        tokens = sum(clip.hidden_size or 0 for clip in clips)
        wanted, width = self.config.pooled_projection_dim, self.config.joint_attention_dim
        if pooled != wanted or tokens > width or (t5.d_model or width) != width:
            raise BundleError(
                f"{self.bundle.path}: mismatched parts: the transformer attends to {width} values "
                f"a token and {wanted} of the prompt, the text encoders give "
                f"{t5.d_model or tokens} and {pooled}; take all parts from one model"
            )

    @property
    def usual(self) -> dict[str, Any]:
        return {"steps": 28, "guidance_scale": 7.0, "scheduler": None}

    def denoiser_inputs(self, rows: int, width: int, height: int) -> Shapes:
        _, _, *cells = self.space.shape(width, height)
        tokens = self.tokenizer.max_length + MAX_SEQUENCE_LENGTH
        return {
            "hidden_states": (rows, self.in_channels, *cells),
            "encoder_hidden_states": (rows, tokens, self.config.joint_attention_dim),
            "pooled_projections": (rows, self.config.pooled_projection_dim),
        }

    def working(self, part: str, shapes: Shapes) -> Working:
        if part != self.denoiser:
            return super().working(part, shapes)
        rows, _, *cells = shapes["hidden_states"]
        tokens = self.image_tokens(*cells) + shapes["encoder_hidden_states"][1]
        width = self.config.num_attention_heads * self.config.attention_head_dim
        return Working("denoiser", rows * tokens * width, rows * tokens * tokens)

    @property
    def patch(self) -> int:
        """Cells of the latents that a token of the transformer spans along one side."""
        return int(self.config.patch_size)

    def image_tokens(self, rows: int, columns: int) -> int:
        """Tokens that the transformer makes of latents of that many cells."""
        return rows // self.patch * (columns // self.patch)

    @property
    def multiple(self) -> int:
        return self.space.factor * self.patch

    @property
    def largest(self) -> int:
        return int(self.config.pos_embed_max_size) * self.multiple

    def set_timesteps(self, scheduler: Scheduler, settings: Settings) -> None:
        if settings.timesteps is not None or not isinstance(scheduler, FlowMatchEuler):
            super().set_timesteps(scheduler, settings)
            return
        _, _, *cells = self.space.shape(settings.width, settings.height)
        scheduler.set_timesteps(settings.steps, self.image_tokens(*cells))

    def teach(self, embeddings: Sequence[Embedding]) -> Words:
        if embeddings:
            raise AdapterError(
                f"{embeddings[0].path}: textual inversion cannot be used with {self.name}, whose "
                "T5 would not know the word; leave it out"
            )
        return Words((), {})

    def read(self, text: str, *, syntax: str, long_prompt: str, options: Any) -> TripleText:
        length = _length(options)

        def chunked(tokenizer: TextTokenizer) -> ChunkedText:
            return chunks_of(tokenizer, text, syntax=syntax, long_prompt=long_prompt)

        clips = PairedText(chunked(self.tokenizer), chunked(self.tokenizer_2))
        t5 = self.t5_tokenizer.of_length(length) if self.t5_tokenizer else None
        return TripleText(clips, chunked(t5) if t5 else None)

    def check_clip_skip(self, clip_skip: int | None) -> None:
        check_clip_skip(clip_skip, map(self.bundle.config, _CLIPS), left=self.layers_left)

    def encoder(self, compiled: Compiled, options: SequenceLength) -> Encoder:
        shapes, length = {"input_ids": (1, self.tokenizer.max_length)}, _length(options)
        first, second = (compiled(part, shapes) for part in _CLIPS)
        return TripleTextEncoder(
            first,
            second,
            compiled(_T5, {"input_ids": (1, length)}) if self.has_t5 else None,
            width=self.config.joint_attention_dim,
            max_sequence_length=length,
        )


def _length(options: SequenceLength) -> int:
    """Tokens that T5 reads at once; SettingError for a number that it cannot."""
    length = options.max_sequence_length
    length = MAX_SEQUENCE_LENGTH if length is None else length
    check_length(length)
    return length
