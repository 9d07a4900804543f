"""The arguments of a call, checked before any work begins."""

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .bundle import Bundle
from .catalog import Defaults
from .errors import PromptError, SettingError

OUTPUT_TYPES = ("pil", "np", "latent")
# What torch.Generator.manual_seed takes.
_SEEDS = range(-(2**63), 2**64)


@dataclass(frozen=True)
class Settings:
    """How to paint: the model's defaults stand where the user said nothing."""

    width: int
    height: int
    steps: int
    guidance_scale: float
    eta: float
    scheduler: str | None
    clip_skip: int | None
    output_type: str

    @classmethod
    def checked(
        cls,
        bundle: Bundle,
        defaults: Defaults,
        *,
        width: int | None,
        height: int | None,
        num_inference_steps: int | None,
        guidance_scale: float | None,
        eta: float,
        scheduler: str | None,
        clip_skip: int | None,
        output_type: str,
    ) -> "Settings":
        """Raises SettingError, naming the argument and what it may be."""
        multiple = max(8, bundle.vae_scale_factor)
        settings = cls(
            _size("width", width if width is not None else defaults.size, multiple),
            _size("height", height if height is not None else defaults.size, multiple),
            num_inference_steps if num_inference_steps is not None else defaults.steps,
            float(guidance_scale if guidance_scale is not None else defaults.guidance_scale),
            float(eta),
            scheduler if scheduler is not None else defaults.scheduler,
            clip_skip,
            output_type,
        )
        if not isinstance(settings.steps, int) or settings.steps < 1:
            raise SettingError(f"num_inference_steps is {settings.steps}; give 1 or more")
        if not (math.isfinite(settings.guidance_scale) and settings.guidance_scale >= 0):
            raise SettingError(f"guidance_scale is {settings.guidance_scale}; give 0 or more")
        if not 0 <= settings.eta <= 1:
            raise SettingError(f"eta is {settings.eta}; give 0 to 1")
        if output_type not in OUTPUT_TYPES:
            raise SettingError(
                f"output_type is {output_type!r}; choose from: {', '.join(OUTPUT_TYPES)}"
            )
        return settings

    @property
    def guided(self) -> bool:
        # At a scale of 1 the unguided half cancels out (Ho & Salimans 2022, eq. 6); below it
        # models distilled to need no guidance are meant.
        return self.guidance_scale > 1


def repeated(prompt: str | Sequence[str], times: int) -> list[str]:
    """Every prompt `times` times, in order; raises PromptError or SettingError."""
    prompts: list[Any] = list(prompt) if isinstance(prompt, list | tuple) else [prompt]
    if not prompts or not all(isinstance(text, str) for text in prompts):
        raise PromptError("prompt must be a text, or a list of texts with at least one in it")
    if not isinstance(times, int) or times < 1:
        raise SettingError(f"num_images_per_prompt is {times}; give 1 or more")
    return [text for text in prompts for _ in range(times)]


def consecutive(seed: int | None, count: int) -> list[int]:
    """`count` seeds from `seed` on; None draws the first, small enough to be typed again."""
    first = secrets.randbelow(2**32 - count) if seed is None else seed
    if not isinstance(first, int) or first not in _SEEDS or first + count - 1 not in _SEEDS:
        raise SettingError(f"seed is {seed}; give a whole number from -2^63 to 2^64 - 1")
    return list(range(first, first + count))


def _size(name: str, pixels: int, multiple: int) -> int:
    if not isinstance(pixels, int) or pixels < multiple or pixels % multiple:
        near = max(multiple, round(pixels / multiple) * multiple)
        raise SettingError(f"{name} is {pixels}; give a multiple of {multiple}, such as {near}")
    return pixels
