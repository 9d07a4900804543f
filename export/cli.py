"""The command `pleinair-export`: a checkpoint in, a model folder out."""

import argparse
import importlib.util
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from pleinair.runtime.cli.parser import Parser
from pleinair.runtime.errors import SourceError, to_install
from pleinair.runtime.exits import exit_code
from pleinair.runtime.model import catalog

from .terminal import progress, stoppable

# Of weights; what `reading.SUFFIXES` has, which is imported with torch.
SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")


def parser() -> Parser:
    """Build the command line. Nothing heavy is imported, so `--help` is quick."""
    made = Parser(
        "pleinair-export",
        description="Convert a Stable Diffusion checkpoint to OpenVINO or ONNX, with PyTorch.",
    )
    made.add_argument(
        "source",
        help="a diffusers folder, a hub id (owner/name), or a .safetensors or .ckpt file; a folder "
        "or id may be a ControlNet's",
    )
    made.add_argument(
        "output",
        nargs="?",
        type=lambda path: Path(path).expanduser(),
        help="folder to make (default: one in your model folder, of the source's name, where "
        "--model NAME finds it)",
    )
    made.add_argument(
        "--format",
        nargs="+",
        choices=("openvino", "onnx"),
        default=["openvino"],
        metavar="FORMAT",
        help="openvino, onnx or both (default: openvino)",
    )
    made.add_argument(
        "--precision",
        choices=("fp16", "fp32"),
        default="fp16",
        help="how weights are stored; fp16 halves the folder (default: fp16)",
    )
    made.add_argument("--revision", help="branch, tag or commit of a hub id")
    made.add_argument(
        "--lora",
        action="append",
        default=[],
        metavar="FILE[:WEIGHT]",
        help="merge a LoRA, LoHa or LoKr file; may be repeated",
    )
    made.add_argument(
        "--vae", type=Path, metavar="PATH", help="take the VAE from this file or folder"
    )
    made.add_argument(
        "--text-encoder",
        type=Path,
        metavar="PATH",
        help="take the text encoder from this file or folder",
    )
    made.add_argument(
        "--unet",
        type=Path,
        metavar="PATH",
        help="take the UNet from this folder or file in diffusers' layout, as those of LCM-SSD-1B, "
        "Lightning and Hyper-SD",
    )
    made.add_argument(
        "--ema", action="store_true", help="of a single file, take the UNet's running averages"
    )
    made.add_argument(
        "--prediction-type",
        choices=("epsilon", "v_prediction", "sample"),
        metavar="TYPE",
        help="of a single file: epsilon, v_prediction or sample (default: what it says, or its "
        "kind; of Stable Diffusion 2 that is v_prediction)",
    )
    made.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="of a single file, its .yaml of CompVis's kind (default: that of its name beside it)",
    )
    made.add_argument(
        "--no-safety-checker", action="store_true", help="leave the checkpoint's own out"
    )
    made.add_argument(
        "--tiny-vae",
        metavar="PATH_OR_ID",
        help="add a tiny decoder for previews and fast decoding, such as madebyollin/taesd",
    )
    made.add_argument(
        "--scheduler",
        metavar="NAME",
        help="the solver that the folder names as its own (default: the checkpoint's, or that of a "
        "LoRA of few steps merged by --lora)",
    )
    made.add_argument(
        "--timestep-spacing",
        metavar="KIND",
        help="and how it spaces its steps: leading, linspace or trailing, as Lightning and Turbo "
        "models take them",
    )
    made.add_argument(
        "--few-steps",
        choices=("auto", *catalog.FEW_STEPS),
        metavar="KIND",
        help="make a folder that paints in few steps: settings of the LoRA's authors, tiny "
        "decoder, 8-bit graphs calibrated on just these steps; auto tells the kind by the name of "
        f"the --lora file, or say it: {', '.join(catalog.FEW_STEPS)}",
    )
    made.add_argument("--overwrite", action="store_true", help="replace the folder if it exists")
    made.add_argument("--quiet", action="store_true", help="print only the folder, and errors")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 2 for a mistake that the user can mend, 130 when interrupted."""
    stopped = "pleinair-export: stopped; nothing was written"
    code: int = exit_code(lambda: run(parser().parse_args(argv)), "pleinair-export", stopped)
    return code


def run(options: argparse.Namespace) -> None:
    """Export, and print the folder."""
    require_extra()
    output = options.output or catalog.user_folder() / default_name(options.source)
    if not options.quiet:
        _tell_on_stderr()
    with progress(options.quiet) as shown, stoppable(shown) as on_progress:
        from . import export_model

        folder = export_model(
            options.source,
            output,
            formats=options.format,
            precision=options.precision,
            revision=options.revision,
            overwrite=options.overwrite,
            loras=options.lora,
            vae=options.vae,
            text_encoder=options.text_encoder,
            unet=options.unet,
            ema=options.ema,
            prediction_type=options.prediction_type,
            config=options.config,
            safety_checker=not options.no_safety_checker,
            tiny_vae=options.tiny_vae,
            scheduler=options.scheduler,
            timestep_spacing=options.timestep_spacing,
            few_steps=options.few_steps,
            on_progress=on_progress,
        )
    print(folder)


def _tell_on_stderr() -> None:
    """Show what is assumed of a checkpoint that does not say it: a line or two, for the user."""
    logger = logging.getLogger("pleinair.export")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for one in (logger, logging.getLogger("pleinair")):  # the runtime's, of what a LoRA file lacks
        one.handlers = [logging.StreamHandler()]


def require_extra() -> None:
    """Raise `SourceError`, with the command that installs it, where PyTorch's libraries are not."""
    for package in ("torch", "diffusers", "transformers", "safetensors", "filelock"):
        if importlib.util.find_spec(package) is None:
            raise SourceError(
                f"converting needs {package}, which is not installed; "
                f"install it with: {to_install('export')}"
            )


def default_name(source: str) -> str:
    """The last part of the source, without a weight suffix."""
    name = Path(source).expanduser().resolve().name
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in SUFFIXES else name
