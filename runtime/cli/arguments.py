"""The options of the painting command, with the names that other systems' users type."""

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import schedulers
from ..denoise.feature_cache import GUIDANCES, SCHEDULES
from ..engines.choice import ENGINES
from ..images.fitting import WAYS
from ..images.metadata import TYPES
from ..images.watermark import COMPVIS
from ..model.safety import SAFETY
from ..model.vae_tiling import WHEN
from ..speed.profiles import PROFILES

DEFAULT_PROMPT = "a red apple"
DEFAULT_OUTDIR = Path("outputs/txt2img-samples")

EPILOG = """\
examples:
  python demo.py --prompt "a red apple, noto style, on a blue background"
  python demo.py --prompt "a rocket" --n_samples 4 --steps 20 --seed 7
  python demo.py --from-file prompts.txt --outdir sheets
  python demo.py --prompt "a rocket" --enlarge 4
  python demo.py --params-from a.png --seed 8  the same again, from another seed
  python demo.py --prompt "a rocket" --compare steps=10,25,50 scheduler=euler,dpmpp_2m
  python demo.py --controlnet models/canny --control-image canny:a.png --prompt "a house"
  pleinair models                              the known models, and which are here
  pleinair pull stable-diffusion-v1-5-fp16-ov  fetch one of them, or any by its hub id
  pleinair-export SOURCE models/NAME           convert a Stable Diffusion checkpoint
  pleinair tune models/NAME                    find what paints it fastest on this machine
"""


@dataclass(frozen=True)
class Setting:
    """An option that decides what a picture looks like.

    It is recorded in the picture's file, restored by --params-from, and an axis of --compare.
    Its default is None, "not given"; `images.metadata.TYPES` says of which type its values are.

    argument: the pipeline's argument that it sets.
    """

    argument: str
    flags: tuple[str, ...]
    metavar: str
    help: str

    @property
    def type(self) -> type:
        return TYPES[self.argument]

    def add_to(self, group: argparse._ActionsContainer) -> None:
        group.add_argument(
            *self.flags, dest=self.argument, type=self.type, metavar=self.metavar, help=self.help
        )


PROMPT = Setting("prompt", ("--prompt",), "TEXT", f"the text (default: {DEFAULT_PROMPT})")
NEGATIVE_PROMPT = Setting(
    "negative_prompt", ("--negative-prompt", "--negative_prompt", "--neg"), "TEXT", "what to avoid"
)
SCHEDULER = Setting(
    "scheduler",
    ("--scheduler",),
    "NAME",
    f"one of: {', '.join(schedulers.names())} (default: the model's)",
)
SEED = Setting("seed", ("--seed",), "N", "picture i is painted from N + i (default: drawn)")
NUMBERS = (
    Setting(
        "num_inference_steps",
        ("--steps", "--ddim_steps", "--num-inference-steps"),
        "N",
        "denoising steps (default: what the model's authors recommend, or 20)",
    ),
    Setting(
        "guidance_scale",
        ("--scale", "--guidance-scale"),
        "X",
        "guidance scale; 1 is none (default: the model's, or 7.5)",
    ),
    Setting("width", ("--W", "--width"), "PIXELS", "a multiple of 8"),
    Setting("height", ("--H", "--height"), "PIXELS", "a multiple of 8"),
    Setting("eta", ("--eta", "--ddim_eta"), "X", "DDIM's noise, 0 to 1 (default: 0)"),
    Setting("clip_skip", ("--clip-skip",), "N", "text layers left out, from the end"),
    Setting("vae", ("--vae",), "NAME", "full, or tiny: the model's tiny decoder, where it has one"),
)
XL = (
    Setting(
        "original_size",
        ("--original-size",),
        "HEIGHTxWIDTH",
        "Stable Diffusion XL: paint as from a picture that was so large (default: as painted)",
    ),
    Setting(
        "crops_coords_top_left",
        ("--crops-coords-top-left",),
        "TOPxLEFT",
        "and that was cut there (default: 0x0)",
    ),
    Setting(
        "target_size", ("--target-size",), "HEIGHTxWIDTH", "and then so large (default: as painted)"
    ),
    Setting(
        "aesthetic_score",
        ("--aesthetic-score",),
        "X",
        "XL's refiner: how well the picture is liked (default: 6)",
    ),
    Setting(
        "negative_aesthetic_score",
        ("--negative-aesthetic-score",),
        "X",
        "and what it is steered away from (default: 2.5)",
    ),
)
READING = (
    Setting(
        "syntax",
        ("--prompt-syntax",),
        "NAME",
        "webui: weights (word:1.3), BREAK, [from:to:0.5], [a|b]; plain: all is text, as diffusers "
        "reads it (default: webui)",
    ),
    Setting(
        "long_prompt",
        ("--long-prompt",),
        "HOW",
        "over 75 tokens: chunk reads all of it, stop is an error before any work, truncate cuts it "
        "(default: chunk)",
    ),
)
PICTURE = (
    Setting(
        "strength",
        ("--strength",),
        "X",
        "how far --init-img is changed, above 0 to 1 (default: 0.8, with --mask 1)",
    ),
    Setting(
        "image_guidance_scale",
        ("--image-guidance-scale",),
        "X",
        "editing by instruction: how close to --init-img (default: 1.5)",
    ),
    Setting(
        "resize",
        ("--resize",),
        "WAY",
        f"how --init-img comes to another size: {', '.join(WAYS)} (default: stretch)",
    ),
    Setting("mask_blur", ("--mask-blur",), "PIXELS", "soft edge of the mask (default: 0)"),
    Setting(
        "noise_level",
        ("--noise-level",),
        "N",
        "x4 upscalers: how much noise on --init-img is painted over anew (default: 20)",
    ),
)
SIZES = (
    Setting(
        "enlarge",
        ("--enlarge",),
        "TIMES",
        "make the picture so many times as large in a second pass, in tiles, by any model; "
        "--init-img is enlarged as it is, unless --strength or --mask say to change it first",
    ),
    Setting(
        "enlarge_strength",
        ("--enlarge-strength",),
        "X",
        "how far that changes it, above 0 to 1 (default: 0.3)",
    ),
    Setting(
        "enlarge_guidance_scale",
        ("--enlarge-guidance",),
        "X",
        "the second pass's guidance scale; 1 is none, and takes half the time (default: 1)",
    ),
    Setting(
        "tile",
        ("--tile",),
        "PIXELS",
        "paint in tiles of this side, so that the memory is a tile's (default: none; with "
        "--enlarge what the model was trained on)",
    ),
    Setting(
        "tile_overlap",
        ("--tile-overlap",),
        "PIXELS",
        "how far tiles overlap (default: a quarter)",
    ),
    Setting(
        "vae_tiling",
        ("--vae-tiling",),
        "WHEN",
        f"the last step in tiles: {', '.join(WHEN)} (default: auto, above 1024x1024)",
    ),
)
CONTROL = (
    Setting(
        "controlnet_conditioning_scale",
        ("--control-scale", "--controlnet-conditioning-scale"),
        "X",
        "how much the ControlNets add, times their weights (default: 1, with --init-img 0.8, with "
        "--mask 0.5)",
    ),
    Setting(
        "control_guidance_start",
        ("--control-start", "--control-guidance-start"),
        "X",
        "share of the steps before they add anything (default: 0)",
    ),
    Setting(
        "control_guidance_end",
        ("--control-end", "--control-guidance-end"),
        "X",
        "share of the steps after which they add no more (default: 1)",
    ),
)
# Of the pipeline and not of a call, but a picture has its own all the same.
PROFILE = Setting(
    "profile",
    ("--profile",),
    "NAME",
    f"what is given up for speed: one of {', '.join(PROFILES)}, or auto, what pleinair tune "
    "recommends (default: exact, which is nothing)",
)
SPEED = (
    Setting(
        "guidance_start",
        ("--guidance-start",),
        "X",
        "share of the steps before guidance acts, 0 to 1; steps without take half the time "
        "(default, as below: the profile's)",
    ),
    Setting(
        "guidance_stop",
        ("--guidance-stop",),
        "X",
        "share of the steps after which it acts no more",
    ),
    Setting(
        "guidance_similarity",
        ("--guidance-similarity",),
        "X",
        "no guidance once what it compares is so similar, such as 0.999; 1 is never",
    ),
    Setting(
        "cache_interval",
        ("--cache-interval",),
        "N",
        "the whole U-Net in every N-th step only, its uppermost part in the others; 1: in all",
    ),
    Setting(
        "cache_branch",
        ("--cache-branch",),
        "N",
        "how much that part is: the blocks over so many more skip connections than one",
    ),
    Setting(
        "cache_schedule",
        ("--cache-schedule",),
        "NAME",
        f"which steps are whole: {', '.join(SCHEDULES)} (more of them early)",
    ),
    Setting(
        "cache_order",
        ("--cache-order",),
        "N",
        "deep features between them: 0 frozen, 1 extrapolated from the last two",
    ),
    Setting(
        "cache_guidance",
        ("--cache-guidance",),
        "NAME",
        f"and guidance: {', '.join(GUIDANCES)}, which computes half as much",
    ),
)
VARIATION = (
    Setting(
        "variation_strength",
        ("--variation-strength",),
        "X",
        "turn the start noise towards that of --variation-seed, 0 to 1 (default: 0)",
    ),
    Setting("variation_seed", ("--variation-seed",), "N", "(default: drawn)"),
)
# The pipeline's arguments; a new one is in the call, the record and --compare by being listed here.
CALL = (
    *(PROMPT, NEGATIVE_PROMPT, *READING, SCHEDULER, SEED),
    *(*VARIATION, *NUMBERS, *PICTURE, *SIZES, *CONTROL, *XL, PROFILE, *SPEED),
)
# Never restored by --params-from: a stranger's picture must not make us open files.
PICTURE_INPUT = (
    *("image", "mask_image", "mask_invert", "keep_unmasked"),
    *("control_image", "guess_mode"),
)
# These set options of the model's scheduler, before any call.
BETAS = (
    Setting("beta_start", ("--beta-start",), "X", "override the model's"),
    Setting("beta_end", ("--beta-end",), "X", "override the model's"),
    Setting("beta_schedule", ("--beta-schedule",), "NAME", "override the model's"),
)


def given(options: argparse.Namespace, settings: Iterable[Setting]) -> dict[str, Any]:
    """Those of the settings that have a value, by the pipeline's names."""
    values = {setting.argument: getattr(options, setting.argument) for setting in settings}
    return {name: value for name, value in values.items() if value is not None}


def picture_input(options: argparse.Namespace) -> dict[str, Any]:
    """The pictures to start from and to follow, by the pipeline's names."""
    return {name: value for name in PICTURE_INPUT if (value := getattr(options, name))}


def by_name(settings: Iterable[Setting]) -> Mapping[str, Setting]:
    """Every way to type a setting's name, without its dashes: steps, ddim_steps, …"""
    return {
        name: setting
        for setting in settings
        for flag in (*setting.flags, setting.argument)
        for name in {flag.lstrip("-"), flag.lstrip("-").replace("-", "_")}
    }


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="pleinair",
        description="Paint pictures from text with Stable Diffusion, on the CPU.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _what(top.add_argument_group("what to paint"))
    _picture(top.add_argument_group("a picture to start from"))
    _control(top.add_argument_group("a picture to follow"))
    _how(top.add_argument_group("how to paint it"))
    _fast(top.add_argument_group("how fast"))
    _large(top.add_argument_group("large pictures"))
    _where(top.add_argument_group("where it goes"))
    _model(top.add_argument_group("model and machine"))
    # No options: --params-from fills them in.
    top.set_defaults(noise_seed=None, machine_restored=False)
    return top


def _what(group: argparse._ArgumentGroup) -> None:
    source = group.add_mutually_exclusive_group()
    PROMPT.add_to(source)
    source.add_argument(
        "--from-file",
        "--from_file",
        type=Path,
        metavar="FILE",
        help="one prompt a line, UTF-8, with options of its own behind it: a cat --seed 7; a job "
        "that was stopped goes on where it was",
    )
    for setting in (NEGATIVE_PROMPT, *READING):
        setting.add_to(group)
    group.add_argument(
        "--style",
        action="append",
        metavar="NAME",
        help="a preset around the prompt, such as vaporwave, oil-painting, van-gogh; several add "
        "up; a wrong name lists the right ones",
    )
    group.add_argument(
        "--wildcards",
        nargs="?",
        const="wildcards",
        type=Path,
        metavar="FOLDER",
        help="draw {a|b} and, from FOLDER/name.txt, __name__ by each picture's seed (if given "
        "alone: %(const)s)",
    )
    group.add_argument(
        "--params-from",
        type=Path,
        metavar="IMAGE",
        help="paint what this picture's file says; other options win over it",
    )
    group.add_argument(
        "--n_samples", "--num-images", type=int, default=1, metavar="N", help="pictures a prompt"
    )
    group.add_argument(
        "--n_iter", type=int, default=1, metavar="N", help="how often those are drawn"
    )
    group.add_argument(
        "--compare",
        nargs="+",
        metavar="NAME=A,B",
        help="one picture for each value, on a sheet with labels: steps=10,25,50; a second one "
        "makes rows, a third more sheets; also size=512x512,512x768 and prompt=a cat|a dog",
    )


def _picture(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--init-img",
        "--init-image",
        "--image",
        dest="image",
        metavar="IMAGE",
        help="picture to change, paint in or edit, as the model does it",
    )
    group.add_argument(
        "--mask",
        dest="mask_image",
        metavar="IMAGE",
        help="white is painted anew, black stays; alpha: what is transparent in the picture",
    )
    group.add_argument("--mask-invert", action="store_true", help="paint what is black instead")
    group.add_argument(
        "--keep-unmasked",
        action="store_true",
        help="the rest comes back bit for bit, at the picture's own size",
    )
    for setting in PICTURE:
        setting.add_to(group)


def _control(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--controlnet",
        action="append",
        default=[],
        metavar="FOLDER[:WEIGHT]",
        help="a converted ControlNet and how much of it; may be repeated",
    )
    group.add_argument(
        "--control-image",
        action="append",
        metavar="IMAGE",
        help="the picture it follows; canny:IMAGE for the edges in one, canny:LOW,HIGH:IMAGE for "
        "other thresholds than 100,200; one for each --controlnet, in their order",
    )
    for setting in CONTROL:
        setting.add_to(group)
    group.add_argument(
        "--guess-mode",
        action="store_true",
        help="steer the prompted half of the guidance alone, for painting without a prompt",
    )


def _how(group: argparse._ArgumentGroup) -> None:
    for setting in (*NUMBERS, SEED, *VARIATION, *XL):
        setting.add_to(group)
    group.add_argument(
        "--fixed_code", action="store_true", help="the same start noise for all pictures"
    )
    solver = group.add_mutually_exclusive_group()
    SCHEDULER.add_to(solver)
    solver.add_argument("--plms", action="store_const", const="plms", dest="scheduler", help="PLMS")
    solver.add_argument(
        "--dpm_solver",
        action="store_const",
        const="dpmpp_2m",
        dest="scheduler",
        help="DPM-Solver++ (2M)",
    )
    for setting in BETAS:
        setting.add_to(group)


def _fast(group: argparse._ArgumentGroup) -> None:
    for setting in (PROFILE, *SPEED):
        setting.add_to(group)


def _large(group: argparse._ArgumentGroup) -> None:
    for setting in SIZES:
        setting.add_to(group)


def _where(group: argparse._ArgumentGroup) -> None:
    target = group.add_mutually_exclusive_group()
    target.add_argument(
        "--outdir",
        type=Path,
        default=DEFAULT_OUTDIR,
        metavar="FOLDER",
        help="pictures are numbered in FOLDER/samples (default: %(default)s)",
    )
    target.add_argument(
        "--output", type=Path, metavar="FILE", help="the one picture's own name: .png, .jpg, .webp"
    )
    group.add_argument("--skip_grid", action="store_true", help="no contact sheet")
    group.add_argument(
        "--n_rows", type=int, default=0, metavar="N", help="pictures in a row of the sheet"
    )
    group.add_argument("--skip_save", action="store_true", help="save no pictures: for timing")
    group.add_argument(
        "--safety",
        choices=SAFETY,
        help="a picture that the model's safety checker finds unsafe: on does not save it and "
        "says so (exit code 3), blur saves its colours (default: on where the model has one)",
    )
    group.add_argument(
        "--preview",
        metavar="FILE",
        help="show the picture while it is painted: a .png that is replaced, or the word terminal",
    )
    group.add_argument(
        "--preview-every", type=int, default=1, metavar="N", help="steps (default: %(default)s)"
    )
    group.add_argument(
        "--watermark",
        nargs="?",
        const=COMPVIS,
        metavar="TEXT",
        help="hide a text in the pixels, as CompVis's scripts do (if given alone: %(const)s)",
    )


def _model(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--model",
        "--ckpt",
        metavar="NAME",
        help="folder, catalog name or hub id (default: the last converted, or the bundled one)",
    )
    group.add_argument("--tokenizer", metavar="FOLDER", help="for models that come without one")
    # So that command lines of CompVis's scripts work: what they say of a model, its folder knows.
    group.add_argument("--config", metavar="FILE", help="not read: a folder describes itself")
    group.add_argument("--C", type=int, metavar="N", help="checked: the model's latent channels")
    group.add_argument("--f", type=int, metavar="N", help="checked: pixels to a latent's side")
    group.add_argument(
        "--lora",
        action="append",
        default=[],
        metavar="FILE[:WEIGHT]",
        help="a LoRA, LoHa or LoKr file (.safetensors) and how much of it; may be repeated",
    )
    group.add_argument(
        "--lora-dir",
        type=Path,
        metavar="FOLDER",
        help="where <lora:name:0.8> in a prompt finds name.safetensors (default: models/loras)",
    )
    group.add_argument(
        "--embedding",
        action="append",
        default=[],
        metavar="FILE[:WORD]",
        help="textual inversion: a word that the prompt may then use; may be repeated",
    )
    group.add_argument("--engine", choices=ENGINES, help="default: auto")
    group.add_argument("--device", help="auto, cpu, cuda, gpu, or the engine's own name")
    group.add_argument(
        "--precision",
        choices=("full", "autocast"),
        help="autocast lets the device compute in fewer digits (default: full)",
    )
    group.add_argument("--threads", type=int, metavar="N", help="default: the physical cores")
    group.add_argument(
        "--max-memory",
        metavar="SIZE",
        help="such as 2GB: load the model's parts when they work, and drop them where others need "
        "room; the picture is the same, and the next one waits for them again",
    )
    cache = group.add_mutually_exclusive_group()
    cache.add_argument(
        "--cache-dir",
        default="auto",
        metavar="FOLDER",
        help="where compiled models, a few megabytes each, are kept for a faster start (default: "
        "the user's cache folder)",
    )
    cache.add_argument(
        "--no-cache", action="store_const", const=None, dest="cache_dir", help="keep none"
    )
