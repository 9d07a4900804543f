"""The command `pleinair-quantize`: 8-bit graphs into an exported folder, without torch."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pleinair.runtime.cli.parser import Parser, whole_number
from pleinair.runtime.exits import exit_code

from .terminal import progress, stoppable


def parser() -> Parser:
    """Build the command line. Nothing heavy is imported, so `--help` is quick."""
    made = Parser(
        "pleinair-quantize",
        description="Add 8-bit graphs of denoiser and VAE decoder to an exported model folder.",
    )
    made.add_argument("folder", help="an exported model: a folder, or the name of one")
    made.add_argument(
        "--format",
        nargs="+",
        choices=("openvino", "onnx"),
        metavar="FORMAT",
        help="openvino, onnx or both (default: what the folder has)",
    )
    made.add_argument(
        "--part",
        nargs="+",
        metavar="PART",
        help="the denoiser by its folder's name, as unet, or vae_decoder, or both (default: both)",
    )
    made.add_argument(
        "--weights-only",
        action="store_true",
        help="8 bits for weights alone, for processors without 8-bit arithmetic (VNNI)",
    )
    made.add_argument(
        "--attention-stride",
        type=whole_number,
        default=2,
        metavar="N",
        help="keys and values of the largest self-attentions come from every N-th row and column; "
        "1 is all (default: 2)",
    )
    made.add_argument(
        "--attention-levels",
        type=whole_number,
        metavar="N",
        help="do so at the N largest resolutions (default: 1, where it has 1024 tokens or more)",
    )
    made.add_argument(
        "--samples",
        type=whole_number,
        default=40,
        metavar="N",
        help="inputs to calibrate on (default: 40)",
    )
    made.add_argument(
        "--steps",
        type=whole_number,
        default=8,
        metavar="N",
        help="of each calibration picture (default: 8)",
    )
    made.add_argument(
        "--size",
        type=whole_number,
        metavar="PIXELS",
        help="of those pictures (default: the model's own)",
    )
    made.add_argument(
        "--prompts",
        type=Path,
        metavar="FILE",
        help="what they show, one prompt a line (default: a list of plain English ones)",
    )
    made.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="LAYERS",
        help="layers that stay in floating point, as --sensitivity names them; may be repeated",
    )
    made.add_argument(
        "--sensitivity",
        action="store_true",
        help="only measure which layers suffer from 8 bits; writes int8-sensitivity.json",
    )
    made.add_argument("--overwrite", action="store_true", help="replace what is there")
    made.add_argument("--quiet", action="store_true", help="print only the folder, and errors")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 2 for a mistake that the user can mend, 130 when interrupted."""
    stopped = "pleinair-quantize: stopped; nothing was written"
    code: int = exit_code(lambda: run(parser().parse_args(argv)), "pleinair-quantize", stopped)
    return code


def run(options: argparse.Namespace) -> None:
    """Quantize and print the folder, or measure and print a table."""
    from .int8 import prompts

    chosen = prompts.PROMPTS if options.prompts is None else prompts.read(options.prompts)
    shared: dict[str, Any] = {
        "formats": options.format,
        "parts": options.part,
        "attention_stride": options.attention_stride,
        "attention_levels": options.attention_levels,
        "steps": options.steps,
        "size": options.size,
        "calibration_prompts": chosen,
        "overwrite": options.overwrite,
    }
    with progress(options.quiet) as shown, stoppable(shown) as on_progress:
        from . import measure_sensitivity, quantize_model

        shared["on_progress"] = on_progress
        if options.sensitivity:
            found = measure_sensitivity(options.folder, **shared)
        else:
            folder = quantize_model(
                options.folder,
                weights_only=options.weights_only,
                samples=options.samples,
                keep=options.keep,
                **shared,
            )
    print(table(found) if options.sensitivity else folder)


def table(measured: Mapping[str, Mapping[str, Mapping[str, float | None]]]) -> str:
    """Which layers suffer, the worst of each graph first."""
    lines = [f"{'graph':<12} {'layers alone in int8':<32} {'SNR, dB':>9} {'error':>9}"]
    for part, groups in measured.items():
        for group, one in sorted(groups.items(), key=lambda pair: _suffering(pair[1])):
            decibels = "-" if one["snr_db"] is None else f"{one['snr_db']:.1f}"
            error = "-" if one["relative_error"] is None else f"{one['relative_error']:.2g}"
            lines.append(f"{part:<12} {group:<32} {decibels:>9} {error:>9}")
    return "\n".join(lines)


def _suffering(one: Mapping[str, float | None]) -> float:
    """For sorting: what was not touched at all comes last."""
    return float("inf") if one["snr_db"] is None else one["snr_db"]


if __name__ == "__main__":
    sys.exit(main())
