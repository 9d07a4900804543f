"""The options that every kind of model has, in groups; a family's stand in its own file."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .. import schedulers
from .option import option

PictureSource: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | NDArray[Any]
"""A file by its path, as its bytes or opened; a PIL picture of any mode, or an array: see
`images.reading.read`."""
Numbers: TypeAlias = float | Sequence[float]
"""One number, or one for each ControlNet."""

DEFAULT_PROMPT = "a red apple"
SYNTAXES = ("webui", "plain")
LONG_PROMPTS = ("chunk", "stop", "truncate")
RESIZES = ("stretch", "crop", "pad")
VAE_TILINGS = ("auto", "on", "off")
DECODERS = ("full", "tiny")
CACHE_SCHEDULES = ("uniform", "growing")
CACHE_GUIDANCES = ("anew", "kept")
CACHE_LEVELS = ("features", "prediction")
SAFETY = ("on", "blur", "off")
OUTPUT_TYPES = ("pil", "np", "latent")
PROFILES = ("exact", "native", "balanced", "fast")
PRECISIONS = ("auto", "f32", "bf16", "f16")
COMPVIS_PRECISIONS = {"full": "f32", "autocast": "auto"}
"""What CompVis's scripts call them, and older pictures of ours."""


@dataclass(frozen=True, kw_only=True)
class Prompting:
    """What is to be seen, and how prompts are read."""

    prompt: str | Sequence[str] = option(
        "--prompt", metavar="TEXT", help=f"the text (default: {DEFAULT_PROMPT})", default=""
    )
    negative_prompt: str | Sequence[str] | None = option(
        "--negative-prompt",
        "--negative_prompt",
        "--neg",
        metavar="TEXT",
        help="what to avoid",
    )
    syntax: str = option(
        "--prompt-syntax",
        default="webui",
        metavar="NAME",
        help="webui: weights (word:1.3), BREAK, [from:to:0.5], [a|b]; plain: all is text, as "
        "diffusers reads it (default: webui)",
        choices=lambda: SYNTAXES,
    )
    long_prompt: str = option(
        "--long-prompt",
        default="chunk",
        metavar="HOW",
        help="over 75 tokens: chunk reads all of it, stop is an error before any work, truncate "
        "cuts it (default: chunk)",
        choices=lambda: LONG_PROMPTS,
    )
    clip_skip: int | None = option(
        "--clip-skip", metavar="N", help="text layers left out, from the end"
    )
    num_images_per_prompt: int = option(
        default=1, help="how often each prompt is painted, from a seed more", recorded=False
    )


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """The way from noise to a picture."""

    num_inference_steps: int | None = option(
        "--steps",
        "--ddim_steps",
        "--ddim-steps",
        "--num-inference-steps",
        metavar="N",
        help="denoising steps (default: what the model's authors recommend, or 20)",
        most=1000,
    )
    guidance_scale: float | None = option(
        "--scale",
        "--guidance-scale",
        metavar="X",
        help="guidance scale; 1 is none (default: the model's, or 7.5)",
    )
    guidance_start: float = option(
        "--guidance-start",
        default=0.0,
        metavar="X",
        help="share of the steps before guidance acts, 0 to 1; steps without take half the time "
        "(default: 0)",
    )
    guidance_stop: float = option(
        "--guidance-stop",
        default=1.0,
        metavar="X",
        help="share of the steps after which it acts no more (default: 1)",
    )
    guidance_rescale: float = option(
        "--guidance-rescale",
        default=0.0,
        metavar="X",
        help="against burnt colours at a high guidance scale, 0 to 1; webui calls it CFG Rescale, "
        "and 0.7 is usual (default: 0)",
    )
    scheduler: str | None = option(
        "--scheduler",
        metavar="NAME",
        help="the solver (default: the model's)",
        choices=schedulers.names,
    )
    timesteps: str | Sequence[int] | None = option(
        "--timesteps",
        metavar="T,T",
        help="the timesteps themselves, falling, as 999,749,499,249; for lcm and tcd (default: "
        "the model's, or those that the solver makes of --steps)",
    )
    eta: float | None = option(
        "--eta",
        "--ddim_eta",
        "--ddim-eta",
        metavar="X",
        help="DDIM's and TCD's noise, 0 to 1 (default: the model's, or 0)",
    )
    denoising_start: float | None = option(
        help="go on with latents at this share of the way, above 0 and below 1", recorded=False
    )
    denoising_end: float | None = option(
        help="leave off at this share, for another model to go on", recorded=False
    )


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The random numbers that a picture is painted from."""

    seed: int | None = option(
        "--seed", metavar="N", help="picture i is painted from N + i; -1 draws N (default: drawn)"
    )
    variation_strength: float = option(
        "--variation-strength",
        default=0.0,
        metavar="X",
        help="turn the start noise towards that of --variation-seed, 0 to 1 (default: 0)",
    )
    variation_seed: int | None = option(
        "--variation-seed", metavar="N", help="the seed of that; -1 draws it (default: drawn)"
    )
    noise_seed: int | None = option(help="the seed of the start noise of every picture")
    latents: NDArray[np.float32] | None = option(
        help="the start noise itself, or with denoising_start what was begun", recorded=False
    )


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture to start from, to paint in or to edit."""

    image: PictureSource | None = option(
        "--init-img",
        "--init-image",
        "--image",
        metavar="IMAGE",
        help="picture to change, paint in or edit, as the model does it",
        recorded=False,
    )
    mask_image: PictureSource | None = option(
        "--mask",
        metavar="IMAGE",
        help="white is painted anew, black stays; alpha: what is transparent in the picture",
        recorded=False,
    )
    mask_invert: bool = option(
        "--mask-invert", default=False, help="paint what is black instead", recorded=False
    )
    keep_unmasked: bool = option(
        "--keep-unmasked",
        default=False,
        help="the rest comes back bit for bit, at the picture's own size",
        recorded=False,
    )
    strength: float | None = option(
        "--strength",
        metavar="X",
        help="how far --init-img is changed, above 0 to 1 (default: 0.8, with --mask 1)",
    )
    resize: str = option(
        "--resize",
        default="stretch",
        metavar="WAY",
        help="how --init-img comes to another size (default: stretch)",
        choices=lambda: RESIZES,
    )
    mask_blur: float = option(
        "--mask-blur", default=0.0, metavar="PIXELS", help="soft edge of the mask (default: 0)"
    )


@dataclass(frozen=True, kw_only=True)
class Control:
    """A picture for ControlNets to follow."""

    control_image: PictureSource | Sequence[PictureSource] | None = option(
        "--control-image",
        metavar="IMAGE",
        help="the picture it follows; canny:IMAGE for the edges in one, canny:LOW,HIGH:IMAGE for "
        "other thresholds than 100,200; one for each --controlnet, in their order",
        recorded=False,
    )
    controlnet_conditioning_scale: Numbers | None = option(
        "--control-scale",
        "--controlnet-conditioning-scale",
        metavar="X",
        help="how much the ControlNets add, times their weights (default: 1, with --init-img 0.8, "
        "with --mask 0.5)",
    )
    control_guidance_start: Numbers | None = option(
        "--control-start",
        "--control-guidance-start",
        metavar="X",
        help="share of the steps before they add anything (default: 0)",
    )
    control_guidance_end: Numbers | None = option(
        "--control-end",
        "--control-guidance-end",
        metavar="X",
        help="share of the steps after which they add no more (default: 1)",
    )
    guess_mode: bool = option(
        "--guess-mode",
        default=False,
        help="steer the conditional branch of the guidance alone, for painting without a prompt",
        recorded=False,
    )


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large, and in which parts it is computed."""

    width: int | None = option(
        "--W", "--width", metavar="PIXELS", help="width, a multiple of 8", most=4096
    )
    height: int | None = option(
        "--H", "--height", metavar="PIXELS", help="height, a multiple of 8", most=4096
    )
    tile: int | None = option(
        "--tile",
        metavar="PIXELS",
        help="paint in tiles of this side, so that the memory is a tile's (default: none; with "
        "--enlarge what the model was trained on)",
        most=4096,
    )
    tile_overlap: int | None = option(
        "--tile-overlap", metavar="PIXELS", help="how far tiles overlap (default: a quarter)"
    )
    vae_tiling: str = option(
        "--vae-tiling",
        default="auto",
        metavar="WHEN",
        help="the last step in tiles (default: auto, above 1024x1024)",
        choices=lambda: VAE_TILINGS,
    )
    vae: str | None = option(
        "--vae",
        metavar="NAME",
        help="the decoder; tiny is the model's tiny one, where it has one (default: the model's, "
        "mostly full)",
        choices=lambda: DECODERS,
    )


@dataclass(frozen=True, kw_only=True)
class Reuse:
    """What is kept from step to step instead of computed anew; None is as the profile has it."""

    cache_interval: int | None = option(
        "--cache-interval",
        metavar="N",
        help="the whole U-Net in every N-th step only, its uppermost part or nothing in the "
        "others; 1: in all (default, as below: the profile's)",
    )
    cache_level: str | None = option(
        "--cache-level",
        metavar="NAME",
        help="what the others reuse: features, under that uppermost part, or the prediction",
        choices=lambda: CACHE_LEVELS,
    )
    cache_branch: int | None = option(
        "--cache-branch",
        metavar="N",
        help="how much that part is: the blocks over so many more skip connections than one",
    )
    cache_schedule: str | None = option(
        "--cache-schedule",
        metavar="NAME",
        help="which steps are whole",
        choices=lambda: CACHE_SCHEDULES,
    )
    cache_guidance: str | None = option(
        "--cache-guidance",
        metavar="NAME",
        help="what guidance adds in the others; kept computes half as much",
        choices=lambda: CACHE_GUIDANCES,
    )


@dataclass(frozen=True, kw_only=True)
class Enlarging:
    """A second pass that makes the picture larger, in tiles."""

    enlarge: float | None = option(
        "--enlarge",
        metavar="TIMES",
        help="make the picture so many times as large in a second pass, in tiles, by any model; "
        "--init-img is enlarged as it is, unless --strength or --mask say to change it first",
        most=16,
    )
    enlarge_strength: float | None = option(
        "--enlarge-strength",
        metavar="X",
        help="how far that changes it, above 0 to 1 (default: 0.3)",
    )
    enlarge_guidance_scale: float | None = option(
        "--enlarge-guidance",
        metavar="X",
        help="the second pass's guidance scale; 1 is none, and takes half the time (default: 1)",
    )
    enlarge_steps: int | None = option(
        "--enlarge-steps",
        metavar="N",
        help="the second pass's steps, of which --enlarge-strength takes a share (default: as many "
        "as the first one's)",
    )


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What comes back."""

    output_type: str = option(
        default="pil", help="of what kind", choices=lambda: OUTPUT_TYPES, recorded=False
    )
    safety: str | None = option(
        "--safety",
        metavar="WHAT",
        help="a picture that the model's safety checker finds unsafe: on does not save it and says "
        "so (exit code 3), blur saves its colours (default: on where the model has one)",
        choices=lambda: SAFETY,
        recorded=False,
    )


@dataclass(frozen=True, kw_only=True)
class Opening:
    """Of the model and not of a call; but a picture's file says them, for they change it."""

    profile: str | None = option(
        "--profile",
        metavar="NAME",
        help=f"what is given up for speed: one of {', '.join(PROFILES)}, or auto, what pleinair "
        "tune recommends (default: the model's, or native, the fastest without a visible loss; "
        "exact gives up nothing)",
    )
    precision: str | None = option(
        "--precision",
        metavar="NAME",
        help=f"what is computed in: one of {', '.join(PRECISIONS)}; full is f32, autocast is auto, "
        "the processor's own (default: the profile's; f32 in exact)",
        choices=lambda: (*PRECISIONS, *COMPVIS_PRECISIONS),
    )
    beta_start: float | None = option("--beta-start", metavar="X", help="override the model's")
    beta_end: float | None = option("--beta-end", metavar="X", help="override the model's")
    beta_schedule: str | None = option(
        "--beta-schedule", metavar="NAME", help="override the model's"
    )


CALL: tuple[type[Any], ...] = (
    Prompting,
    Sampling,
    Noise,
    Picture,
    Control,
    Size,
    Reuse,
    Enlarging,
    Answer,
)
"""The groups that a call takes, beside the family's own."""
