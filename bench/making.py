"""The memory that a model takes to make: the most that was resident in each stage of it."""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pleinair.runtime.errors import EngineError

from . import machine, memory, results
from .markdown import table


def add_to(commands: Any) -> None:
    about = "export a checkpoint, or quantize a model, and watch its memory"
    parser = commands.add_parser("making", help=about, description=about)
    parser.add_argument(
        "source", type=Path, help="a checkpoint; without FOLDER an exported model, to quantize"
    )
    parser.add_argument("folder", nargs="?", type=Path, help="the folder to make")
    parser.add_argument(
        "--formats", nargs="+", choices=("openvino", "onnx"), help="default: the command's own"
    )
    parser.add_argument("--parts", nargs="+", help="of the model, to quantize (default: both)")
    parser.add_argument("--samples", type=int, default=4, help="to calibrate on (default: 4)")
    parser.add_argument("--steps", type=int, default=4, help="of each picture (default: 4)")
    results.add_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    results.check(options, "samples", "steps")
    if memory.resident() is None:
        raise EngineError("this system does not say what is resident; pip install psutil")
    make = _quantize if options.folder is None else _export
    begun = time.perf_counter()
    with memory.Stages("start") as stages:
        make(options, lambda stage, share: stages.enter(stage))
    everything = {
        "machine": machine.facts(),
        "seconds": time.perf_counter() - begun,
        "peak": memory.peak(),
        "stages": stages.peaks,
    }
    results.publish(options, everything, _markdown(everything))
    return 0


def _export(options: argparse.Namespace, tell: Callable[[str, float], None]) -> None:
    from pleinair.export import export_model

    formats = options.formats or ["openvino"]
    export_model(options.source, options.folder, formats, on_progress=tell)


def _quantize(options: argparse.Namespace, tell: Callable[[str, float], None]) -> None:
    from pleinair.export import quantize_model

    quantize_model(
        options.source,
        options.formats,
        options.parts,
        samples=options.samples,
        steps=options.steps,
        overwrite=True,
        on_progress=tell,
    )


def _markdown(everything: dict[str, Any]) -> str:
    rows = [[stage, f"{peak / 1e9:.2f}"] for stage, peak in everything["stages"].items()]
    most = everything["peak"]
    head = f"{everything['seconds']:.0f} s"
    if most is not None:
        head += f"; {most / 1e9:.2f} GB resident at the peak, pages of mapped files included."
    return "\n\n".join([head, table(["stage", "most resident, GB"], rows)])
