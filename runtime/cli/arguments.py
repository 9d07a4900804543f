"""The options of the painting command, with the names that other systems' users type."""

import argparse
from pathlib import Path

from .. import schedulers
from ..engines.choice import ENGINES

DEFAULT_PROMPT = "a red apple"
DEFAULT_OUTDIR = Path("outputs/txt2img-samples")

EPILOG = """\
examples:
  python demo.py --prompt "a red apple, noto style, on a blue background"
  python demo.py --prompt "a rocket" --n_samples 4 --steps 20 --seed 7
  python demo.py --from-file prompts.txt --outdir sheets
  pleinair models                              the known models, and which are here
  pleinair-export SOURCE models/NAME           convert a Stable Diffusion checkpoint
"""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="pleinair",
        description="Paint pictures from text with Stable Diffusion, on the CPU.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _what(top.add_argument_group("what to paint"))
    _how(top.add_argument_group("how to paint it"))
    _where(top.add_argument_group("where it goes"))
    _model(top.add_argument_group("model and machine"))
    return top


def _what(group: argparse._ArgumentGroup) -> None:
    source = group.add_mutually_exclusive_group()
    source.add_argument("--prompt", default=DEFAULT_PROMPT, help="the text (default: %(default)s)")
    source.add_argument(
        "--from-file", "--from_file", type=Path, metavar="FILE", help="one prompt a line, UTF-8"
    )
    group.add_argument(
        "--negative-prompt", "--negative_prompt", default="", metavar="TEXT", help="what to avoid"
    )
    group.add_argument(
        "--n_samples", "--num-images", type=int, default=1, metavar="N", help="pictures a prompt"
    )
    group.add_argument(
        "--n_iter", type=int, default=1, metavar="N", help="how often those are drawn"
    )


def _how(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--steps",
        "--ddim_steps",
        "--num-inference-steps",
        type=int,
        metavar="N",
        help="denoising steps (default: what the model's authors recommend, or 20)",
    )
    group.add_argument(
        "--scale",
        "--guidance-scale",
        type=float,
        metavar="X",
        help="guidance scale; 1 is none (default: the model's, or 7.5)",
    )
    group.add_argument("--W", "--width", type=int, metavar="PIXELS", help="a multiple of 8")
    group.add_argument("--H", "--height", type=int, metavar="PIXELS", help="a multiple of 8")
    group.add_argument(
        "--seed", type=int, metavar="N", help="picture i is painted from N + i (default: drawn)"
    )
    group.add_argument(
        "--fixed_code", action="store_true", help="the same start noise for all pictures"
    )
    solver = group.add_mutually_exclusive_group()
    solver.add_argument(
        "--scheduler",
        metavar="NAME",
        help=f"one of: {', '.join(schedulers.names())} (default: the model's)",
    )
    solver.add_argument("--plms", action="store_const", const="plms", dest="scheduler", help="PLMS")
    solver.add_argument(
        "--dpm_solver",
        action="store_const",
        const="dpmpp_2m",
        dest="scheduler",
        help="DPM-Solver++ (2M)",
    )
    group.add_argument(
        "--eta", "--ddim_eta", type=float, default=0.0, metavar="X", help="DDIM's noise, 0 to 1"
    )
    group.add_argument(
        "--clip-skip", type=int, metavar="N", help="text layers left out, from the end"
    )
    group.add_argument("--beta-start", type=float, metavar="X", help="override the model's")
    group.add_argument("--beta-end", type=float, metavar="X", help="override the model's")
    group.add_argument("--beta-schedule", metavar="NAME", help="override the model's")


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


def _model(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--model",
        "--ckpt",
        metavar="NAME",
        help="folder, catalog name or hub id (default: the last converted, or the bundled one)",
    )
    group.add_argument("--tokenizer", metavar="FOLDER", help="for models that come without one")
    group.add_argument("--engine", choices=ENGINES, default="auto", help="default: %(default)s")
    group.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, gpu, or the engine's own name"
    )
    group.add_argument(
        "--precision",
        choices=("full", "autocast"),
        default="full",
        help="autocast lets the device compute in fewer digits (default: %(default)s)",
    )
    group.add_argument("--threads", type=int, metavar="N", help="default: the physical cores")
    group.add_argument(
        "--cache-dir", type=Path, metavar="FOLDER", help="keep compiled models for a faster start"
    )
