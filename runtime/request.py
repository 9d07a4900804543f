"""The arguments of a call, checked before any work begins."""

import logging
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from .denoise.control import Controls
from .denoise.guidance import ClassifierFree, Guidance, Instructed
from .denoise.start import steps_taken
from .denoise.variation import Variation
from .errors import PromptError, SettingError
from .images.original import Original
from .model.bundle import INPAINTING, INSTRUCTION, UPSCALING, Bundle
from .model.catalog import Defaults
from .model.safety import chosen
from .model.tiles import Tiles
from .model.vae_tiling import WHEN, VaeTiling

log = logging.getLogger("pleinair")

OUTPUT_TYPES = ("pil", "np", "latent")
DECODERS = ("full", "tiny")
# What torch.Generator.manual_seed takes.
_SEEDS = range(-(2**63), 2**64)


# diffusers' for image to image, for inpainting, and for InstructPix2Pix's picture.
_STRENGTH, _MASKED_STRENGTH, _IMAGE_SCALE = 0.8, 1.0, 1.5
# diffusers' for upscalers: where that much noise is put on the small picture.
_NOISE_LEVEL = 20
# Pixels that the VAE is given whole unless told otherwise: its widest layers take 1 KB for each.
_WHOLE = 1024 * 1024


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
    noise_level: int | None
    tiles: Tiles
    vae_tiles: Tiles | VaeTiling
    vae: str
    safety: str
    lcm_strength: float = 1.0
    """How much of its timesteps LCM draws from: image to image there takes all steps."""

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
        controls: Controls | None = None,
        noise_level: int | None = None,
        tile: int | None = None,
        tile_overlap: int | None = None,
        vae_tiling: str = "auto",
        vae: str = "full",
        safety: str | None = None,
    ) -> "Settings":
        """Raises SettingError, naming the argument and what it may be."""
        _check_pictures(bundle, original, strength, image_guidance_scale)
        upscale = bundle.vae_scale_factor if bundle.task == UPSCALING else 1
        multiple = max(8, bundle.vae_scale_factor * upscale)
        if width is None or height is None:
            source = original or controls
            own_width, own_height = _own_size(source, defaults.size, multiple, upscale, tile)
            width = own_width if width is None else width
            height = own_height if height is None else height
        scale = float(guidance_scale if guidance_scale is not None else defaults.guidance_scale)
        width, height = _size("width", width, multiple), _size("height", height, multiple)
        tiles = _tiles(bundle, width, height, multiple, tile, tile_overlap)
        settings = cls(
            width,
            height,
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
            _noise_level(bundle, noise_level),
            tiles,
            _vae_tiles(bundle, tiles, vae_tiling),
            _decoder(bundle, vae),
            chosen(bundle, safety),
        )
        if _shortens(bundle, original, settings.scheduler):
            settings = replace(settings, strength=1.0, lcm_strength=settings.strength)
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


def _own_size(
    source: Original | Controls | None,
    trained: int,
    multiple: int,
    upscale: int,
    tile: int | None,
) -> tuple[int, int]:
    """Width and height where they are not given: the picture's, else what the model knows best.

    upscale: how many times as large as the picture an upscaler paints; 1 for all others.
    """
    if source is None:
        return trained, trained
    width, height = (side * upscale for side in source.size(multiple // upscale))
    if width * height > 4 * trained**2 and tile is None:
        # A photograph as it is: hours, and more memory than most machines have.
        log.warning(
            "%d x %d pixels are to be painted and the model was trained on %d x %d; "
            "give width and height to paint fewer, or tile to paint them in parts",
            *(width, height, trained, trained),
        )
    return width, height


def _tiles(
    bundle: Bundle, width: int, height: int, multiple: int, tile: int | None, overlap: int | None
) -> Tiles:
    """The tiles that are denoised together; one where none are asked for."""
    factor = bundle.vae_scale_factor
    size = height // factor, width // factor
    if tile is None:
        if overlap is not None:
            raise SettingError("tile_overlap says how far tiles overlap; give tile, their size")
        return Tiles.covering(size, None)
    side = _size("tile", tile, multiple)
    if overlap is None:
        overlap = side // 4 // multiple * multiple
    most = side // 2 // multiple * multiple
    if not isinstance(overlap, int) or overlap not in range(0, most + 1, multiple):
        raise SettingError(
            f"tile_overlap is {overlap}; give a multiple of {multiple} from 0 to {most}, "
            f"half of a tile of {side}"
        )
    return Tiles.covering(size, side // factor, overlap // factor)


def _vae_tiles(bundle: Bundle, tiles: Tiles, tiling: str) -> Tiles | VaeTiling:
    """How pictures go through the VAE; by diffusers' rule whole where a tile of its holds them."""
    if tiling not in WHEN:
        raise SettingError(f"vae_tiling is {tiling!r}; choose from: {', '.join(WHEN)}")
    factor = bundle.vae_scale_factor
    side = bundle.vae_sample_size // factor
    large = math.prod(tiles.size) * factor**2 > _WHOLE
    if tiles.tile != tiles.size or max(tiles.size) <= side:
        return tiles
    return VaeTiling(tiles.size, side) if tiling == "on" or (tiling == "auto" and large) else tiles


def _noise_level(bundle: Bundle, noise_level: int | None) -> int | None:
    if bundle.task != UPSCALING:
        if noise_level is not None:
            raise SettingError(f"noise_level is for upscalers; {bundle.name} is none")
        return None
    most = bundle.max_noise_level
    noise_level = min(_NOISE_LEVEL, most) if noise_level is None else noise_level
    if not isinstance(noise_level, int) or not 0 <= noise_level <= most:
        raise SettingError(f"noise_level is {noise_level}; give a whole number from 0 to {most}")
    return noise_level


def _strength(original: Original | None, strength: float | None) -> float:
    if strength is None:
        return _MASKED_STRENGTH if original and original.mask else _STRENGTH
    if not 0 < strength <= 1:
        raise SettingError(f"strength is {strength}; give more than 0, and at most 1")
    return float(strength)


def _shortens(bundle: Bundle, original: Original | None, scheduler: str | None) -> bool:
    """Image to image with a latent consistency model, which diffusers has a pipeline of its own."""
    if bundle.guidance_width is None or original is None or original.mask:
        return False
    own = bundle.scheduler.get("_class_name") == "LCMScheduler"
    return scheduler == "lcm" or (scheduler is None and own)


def _guidance(bundle: Bundle, scale: float, image_scale: float | None) -> Guidance | None:
    """None is no guidance: the UNet is asked once a step."""
    if not (math.isfinite(scale) and scale >= 0):
        raise SettingError(f"guidance_scale is {scale}; give 0 or more")
    # At a scale of 1 the unguided half cancels out (Ho & Salimans 2022, eq. 6); below it
    # models distilled to need no guidance are meant.
    if bundle.guidance_width is not None:
        return None  # it was distilled into the UNet, which is told the scale
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
    if bundle.task == UPSCALING and not original:
        raise SettingError(f"{bundle.name} makes a picture larger: give image")
    if bundle.task == UPSCALING and (mask or strength is not None):
        raise SettingError(
            f"{bundle.name} makes whole pictures larger: leave out mask_image and strength; "
            "noise_level says how much is painted anew"
        )
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
