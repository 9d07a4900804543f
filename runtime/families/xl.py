"""Stable Diffusion XL and its refiner [Podell et al. 2023]."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from msgspec import Struct

from ..adapters.inversion import Embedding, Words
from ..denoise.guidance import is_conditional
from ..engines.protocol import Shapes
from ..errors import Argument, BundleError, Message, SettingError, shown
from ..files import conform
from ..images.preview import signed
from ..model.bundle import Bundle
from ..model.configs import TextConfig
from ..model.latent_space import MEAN_AND_STD
from ..options.groups import Picture
from ..options.option import option
from ..text.chunks import chunks_of
from ..text.encoder import Encoder
from ..text.tokenizer import ClipTokenizer
from ..text.xl import PairedText, PooledTextEncoder, XLTextEncoder, check_pair
from .family import Array, Compiled
from .settings import Settings
from .stable_diffusion import StableDiffusion

Pair: TypeAlias = tuple[int, int]

_COLOURS = {
    0.13025: signed(
        [
            [0.3651, 0.4232, 0.4341],
            [-0.2533, -0.0042, 0.1068],
            [0.1076, 0.1111, -0.0362],
            [-0.3165, -0.2492, -0.2188],
        ],
        [0.1084, -0.0175, -0.0011],
    )
}


@dataclass(frozen=True, kw_only=True)
class SizeConditioning:
    """What the UNet is told of sizes, or of a score, by diffusers' names.

    In training it was told of each picture how large it had been, where it was cut and how large it
    then was, so that small and cut pictures could be learnt from without being imitated. Sizes are
    (height, width), positions (top, left), in pixels, or texts, "768x1024". None is the size
    painted at, the corner (0, 0), and for a negative one what the other is. Scores are the
    refiner's alone, where they stand in place of target_size.
    """

    original_size: str | Pair | None = option(
        "--original-size",
        metavar="HEIGHTxWIDTH",
        help="Stable Diffusion XL: paint as from a picture that was so large (default: as painted)",
    )
    crops_coords_top_left: str | Pair | None = option(
        "--crops-coords-top-left",
        metavar="TOPxLEFT",
        help="and that was cut there (default: 0x0)",
    )
    target_size: str | Pair | None = option(
        "--target-size", metavar="HEIGHTxWIDTH", help="and then so large (default: as painted)"
    )
    negative_original_size: str | Pair | None = option(
        help="original_size of the negative prompt", recorded=False
    )
    negative_crops_coords_top_left: str | Pair | None = option(
        help="crops_coords_top_left of the negative prompt", recorded=False
    )
    negative_target_size: str | Pair | None = option(
        help="target_size of the negative prompt", recorded=False
    )
    aesthetic_score: float | None = option(
        "--aesthetic-score",
        metavar="X",
        help="XL's refiner: how well the picture is liked (default: 6)",
    )
    negative_aesthetic_score: float | None = option(
        "--negative-aesthetic-score",
        metavar="X",
        help="and what it is steered away from (default: 2.5)",
    )


class XLIndex(Struct):
    """What model_index.json says of how XL is to be told things; null is false, as in diffusers."""

    force_zeros_for_empty_prompt: bool | None = True
    requires_aesthetics_score: bool | None = False


_SCORES = {"aesthetic_score": 6.0, "negative_aesthetic_score": 2.5}


class StableDiffusionXL(StableDiffusion):
    """Two text encoders, a pooled prompt, and sizes; the refiner has the second encoder alone."""

    name = "Stable Diffusion XL"
    class_names = (
        "StableDiffusionXLPipeline",
        "StableDiffusionXLImg2ImgPipeline",
        "StableDiffusionXLInpaintPipeline",
    )
    options = SizeConditioning
    colours = _COLOURS
    latents = MEAN_AND_STD
    layers_left = 2
    cells = 128

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.zero_negative = bool(self._index.force_zeros_for_empty_prompt)
        self.tokenizer_2: ClipTokenizer | None = None
        if not self.refines:
            self.tokenizer_2 = self.tokenizer_of("text_encoder_2", ClipTokenizer)
            check_pair(self.tokenizer, self.tokenizer_2)

    @functools.cached_property
    def _index(self) -> "XLIndex":
        return conform(self.bundle.index, XLIndex, self.bundle.path / "model_index.json")

    told = {"addition_embed_type": ("text_time",)}  # noqa: RUF012 (a ClassVar of the base)

    def check(self) -> None:
        super().check()
        self._check_ids()

    def _check_ids(self) -> None:
        """The UNet has room for as many numbers as it is told, as diffusers' pipelines check."""
        width, each = self.config.projection_class_embeddings_input_dim, self._time_width
        if width is None or each is None:
            return
        if width != (wanted := self._pooled_width + self._ids * each):
            raise BundleError(
                f"{self.bundle.path / self.denoiser / 'config.json'}: is told {width} values of "
                f"text and sizes (projection_class_embeddings_input_dim), and gets {wanted}: check "
                "requires_aesthetics_score in model_index.json, and take all parts from one model"
            )

    @property
    def refines(self) -> bool:
        """Whether it has the second text encoder alone, as the refiner."""
        return self.bundle.index.get("text_encoder") in (None, [None, None])

    @property
    def scores(self) -> bool:
        """Whether the UNet is told a score instead of the size it paints at."""
        return bool(self._index.requires_aesthetics_score)

    @property
    def _ids(self) -> int:
        """Numbers that the UNet is told of sizes, or of sizes and a score."""
        return 5 if self.scores else 6

    @property
    def _time_width(self) -> int | None:
        width: int | None = self.config.addition_time_embed_dim
        return width

    @functools.cached_property
    def _pooled_width(self) -> int:
        """Values of the pooled prompt."""
        part = "text_encoder_2"
        width: int | None = self.read_config(part, TextConfig).projection_dim
        if width is None:
            raise BundleError(
                f"{self.bundle.path / part / 'config.json'}: does not say projection_dim; copy it "
                "from the checkpoint"
            )
        return width

    @property
    def text_encoders(self) -> tuple[str, ...]:
        return ("text_encoder_2",) if self.refines else ("text_encoder", "text_encoder_2")

    def denoiser_inputs(self, rows: int, width: int, height: int) -> Shapes:
        shapes = super().denoiser_inputs(rows, width, height)
        pooled, ids = (rows, self._pooled_width), (rows, self._ids)
        return {**shapes, "text_embeds": pooled, "time_ids": ids}

    def check_call(self, picture: Picture, options: SizeConditioning) -> None:
        super().check_call(picture, options)
        for name, value in vars(options).items():
            if value is None:
                continue
            about_score = "aesthetic_score" in name
            if self.scores != about_score and ("target" in name or about_score):
                other = "is for XL's refiner" if about_score else "is not what XL's refiner is told"
                raise SettingError(
                    Message(
                        "{0} {1}; leave it out for {2}", Argument(name), other, self.bundle.name
                    )
                )
            _score(name, value) if about_score else _pair(name, value)

    def teach(self, embeddings: Sequence[Embedding]) -> Words:
        return self.tokenizer.learn(embeddings, [self.tokenizer_2] if self.tokenizer_2 else [])

    def read(self, text: str, *, syntax: str, long_prompt: str, options: Any) -> Any:
        first = chunks_of(self.tokenizer, text, syntax=syntax, long_prompt=long_prompt)
        if self.tokenizer_2 is None:
            return first
        second = chunks_of(self.tokenizer_2, text, syntax=syntax, long_prompt=long_prompt)
        return PairedText(first, second)

    def encoder(self, compiled: Compiled, options: SizeConditioning) -> Encoder:
        second = compiled("text_encoder_2", self.token_shapes)
        if self.refines:
            return PooledTextEncoder(second)
        return XLTextEncoder(compiled("text_encoder", self.token_shapes), second)

    def extra_inputs(self, settings: Settings, branch: str) -> dict[str, Array]:
        ids = self._time_ids(settings, negative=not is_conditional(branch))
        return {**super().extra_inputs(settings, branch), "time_ids": np.array([ids], np.float32)}

    def _time_ids(self, settings: Settings, negative: bool) -> list[float]:
        """Six numbers, for the refiner five."""
        size = (settings.height, settings.width)
        usual: dict[str, Pair] = {
            "original_size": size,
            "crops_coords_top_left": (0, 0),
            "target_size": size,
        }
        ids: list[float] = []
        for name, otherwise in usual.items():
            if name == "target_size" and self.scores:
                ids.append(_asked_score(settings.options, negative))
            else:
                ids += _asked_pair(settings.options, name, negative) or otherwise
        return ids


def _asked_pair(options: SizeConditioning, name: str, negative: bool) -> Pair | None:
    for asked in (f"negative_{name}",) * negative + (name,):
        if (value := getattr(options, asked)) is not None:
            return _pair(asked, value)
    return None


def _asked_score(options: SizeConditioning, negative: bool) -> float:
    name = "negative_aesthetic_score" if negative else "aesthetic_score"
    asked = getattr(options, name)
    return _SCORES[name] if asked is None else float(asked)


def _pair(name: str, value: Any) -> Pair:
    try:
        first, second = value.lower().split("x") if isinstance(value, str) else value
        return int(first), int(second)
    except (TypeError, ValueError):
        raise SettingError(
            Message(
                "{0} is {1}; give two whole numbers of pixels, of a size the height first: "
                "(768, 1024), or 768x1024",
                Argument(name),
                shown(repr(value)),
            )
        ) from None


def _score(name: str, value: Any) -> float:
    if not math.isfinite(value):
        raise SettingError(Message("{0} is {1}; give a number like 6", Argument(name), value))
    return float(value)
