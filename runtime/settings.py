"""The arguments of a call, checked before any work begins."""

import logging
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .bundle import INPAINTING, INSTRUCTION, Bundle
from .catalog import Defaults
from .errors import PromptError, SettingError
from .guidance import ClassifierFree, Guidance, Instructed
from .images.original import Original
from .safety import chosen
from .start import steps_taken
from .variation import Variation

log = logging.getLogger("pleinair")

OUTPUT_TYPES = ("pil", "np", "latent")
DECODERS = ("full", "tiny")
# What torch.Generator.manual_seed takes.
_SEEDS = range(-(2**63), 2**64)


# diffusers' for image to image, for inpainting, and for InstructPix2Pix's picture.
_STRENGTH, _MASKED_STRENGTH, _IMAGE_SCALE = 0.8, 1.0, 1.5


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
    syntax: str
    long_prompt: str
    output_type: str
    strength: float
    guidance: Guidance | None
    vae: str
    safety: str

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
        scheduler: str | None,
        eta: float = 0.0,
        clip_skip: int | None = None,
        syntax: str = "webui",
        long_prompt: str = "chunk",
        output_type: str = "pil",
        original: Original | None = None,
        strength: float | None = None,
        image_guidance_scale: float | None = None,
        vae: str = "full",
        safety: str | None = None,
    ) -> "Settings":
        """Raises SettingError, naming the argument and what it may be."""
        _check_pictures(bundle, original, strength, image_guidance_scale)
        multiple = max(8, bundle.vae_scale_factor)
        if width is None or height is None:
            own_width, own_height = _own_size(original, defaults.size, multiple)
            width = own_width if width is None else width
            height = own_height if height is None else height
        scale = float(guidance_scale if guidance_scale is not None else defaults.guidance_scale)
        settings = cls(
            _size("width", width, multiple),
            _size("height", height, multiple),
            num_inference_steps if num_inference_steps is not None else defaults.steps,
            scale,
            float(eta),
            scheduler if scheduler is not None else defaults.scheduler,
            clip_skip,
            syntax,
            long_prompt,
            output_type,
            _strength(original, strength),
            _guidance(bundle, scale, image_guidance_scale),
            _decoder(bundle, vae),
            chosen(bundle, safety),
        )
        if not isinstance(settings.steps, int) or settings.steps < 1:
            raise SettingError(f"num_inference_steps is {settings.steps}; give 1 or more")
        if original and steps_taken(settings.steps, settings.strength) < 1:
            raise SettingError(
                f"strength is {settings.strength:g}: of {settings.steps} steps that leaves none; "
                f"give at least {math.ceil(100 / settings.steps) / 100:g}, or more steps"
            )
        if not 0 <= settings.eta <= 1:
            raise SettingError(f"eta is {settings.eta}; give 0 to 1")
        if output_type not in OUTPUT_TYPES:
            raise SettingError(
                f"output_type is {output_type!r}; choose from: {', '.join(OUTPUT_TYPES)}"
            )
        if original and original.keep_unmasked and output_type == "latent":
            raise SettingError("keep_unmasked is about pictures; output_type 'latent' gives none")
        return settings


def repeated(prompt: str | Sequence[str], times: int) -> list[str]:
    """Every prompt `times` times, in order; raises PromptError or SettingError."""
    prompts: list[Any] = list(prompt) if isinstance(prompt, list | tuple) else [prompt]
    if not prompts or not all(isinstance(text, str) for text in prompts):
        raise PromptError("prompt must be a text, or a list of texts with at least one in it")
    if not isinstance(times, int) or times < 1:
        raise SettingError(f"num_images_per_prompt is {times}; give 1 or more")
    return [text for text in prompts for _ in range(times)]


def consecutive(seed: int | None, count: int, name: str = "seed") -> list[int]:
    """`count` seeds from `seed` on; None draws the first, small enough to be typed again."""
    first = secrets.randbelow(2**32 - count) if seed is None else seed
    if not isinstance(first, int) or first not in _SEEDS or first + count - 1 not in _SEEDS:
        raise SettingError(f"{name} is {seed}; give a whole number from -2^63 to 2^64 - 1")
    return list(range(first, first + count))


def seeds_of(
    seed: int | None, variation_seed: int | None, variation_strength: float, count: int
) -> list[tuple[int, Variation | None]]:
    """Seed and variation of each of `count` images; of the two seeds one counts up.

    Without variation the seed does. With it all images share the seed, and are its variations.
    """
    if not 0 <= variation_strength <= 1:
        raise SettingError(f"variation_strength is {variation_strength}; give 0 to 1")
    if not variation_strength:
        return [(own, None) for own in consecutive(seed, count)]
    (own,) = consecutive(seed, 1)
    others = consecutive(variation_seed, count, "variation_seed")
    return [(own, Variation(other, float(variation_strength))) for other in others]


def _size(name: str, pixels: int, multiple: int) -> int:
    if not isinstance(pixels, int) or pixels < multiple or pixels % multiple:
        near = max(multiple, round(pixels / multiple) * multiple)
        raise SettingError(f"{name} is {pixels}; give a multiple of {multiple}, such as {near}")
    return pixels


def _own_size(original: Original | None, trained: int, multiple: int) -> tuple[int, int]:
    """Width and height where they are not given: the picture's, else what the model knows best."""
    if original is None:
        return trained, trained
    width, height = original.size(multiple)
    if width * height > 4 * trained**2:
        # A photograph as it is: hours, and more memory than most machines have.
        log.warning(
            "image is %d x %d pixels and the model was trained on %d x %d; "
            "give width and height to paint it smaller",
            *(*original.picture.size, trained, trained),
        )
    return width, height


def _strength(original: Original | None, strength: float | None) -> float:
    if strength is None:
        return _MASKED_STRENGTH if original and original.mask else _STRENGTH
    if not 0 < strength <= 1:
        raise SettingError(f"strength is {strength}; give more than 0, and at most 1")
    return float(strength)


def _guidance(bundle: Bundle, scale: float, image_scale: float | None) -> Guidance | None:
    """None is no guidance: the UNet is asked once a step."""
    if not (math.isfinite(scale) and scale >= 0):
        raise SettingError(f"guidance_scale is {scale}; give 0 or more")
    # At a scale of 1 the unguided half cancels out (Ho & Salimans 2022, eq. 6); below it
    # models distilled to need no guidance are meant.
    if bundle.task != INSTRUCTION:
        return ClassifierFree(scale) if scale > 1 else None
    image_scale = float(_IMAGE_SCALE if image_scale is None else image_scale)
    if not (math.isfinite(image_scale) and image_scale >= 0):
        raise SettingError(f"image_guidance_scale is {image_scale}; give 0 or more")
    return Instructed(scale, image_scale) if scale > 1 and image_scale >= 1 else None


def _decoder(bundle: Bundle, vae: str) -> str:
    if vae not in DECODERS:
        raise SettingError(f"vae is {vae!r}; choose from: {', '.join(DECODERS)}")
    if vae == "tiny" and not bundle.has("vae_decoder_tiny"):
        raise SettingError(
            f"{bundle.name} has no tiny decoder; export it anew with: pleinair-export --tiny-vae"
        )
    return vae


def _check_pictures(
    bundle: Bundle,
    original: Original | None,
    strength: float | None,
    image_guidance_scale: float | None,
) -> None:
    """The pictures that a model needs are there, and none that it can do nothing with."""
    mask = original and original.mask
    if bundle.task == INPAINTING and not mask:
        raise SettingError(
            f"{bundle.name} is a model for inpainting: give image, and mask_image, "
            "which is white where the picture is to be painted anew"
        )
    if bundle.task == INSTRUCTION and not original:
        raise SettingError(f"{bundle.name} edits pictures by instruction: give image")
    if bundle.task == INSTRUCTION and mask:
        raise SettingError(f"{bundle.name} edits whole pictures: leave mask_image out")
    if bundle.task == INSTRUCTION and strength is not None:
        raise SettingError(
            f"{bundle.name} edits pictures by instruction and has no strength; "
            "image_guidance_scale says how much of the picture stays"
        )
    if bundle.task != INSTRUCTION and image_guidance_scale is not None:
        raise SettingError(
            f"image_guidance_scale is for models that edit by instruction; {bundle.name} is none"
        )
    if strength is not None and not original:
        raise SettingError("strength says how far image is changed, and there is none; give image")
