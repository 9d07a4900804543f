"""A folder in optimum-intel's hybrid 8 bits, for `peers`: made once, and kept."""

import argparse
import shutil
from pathlib import Path
from typing import Any

from pleinair.runtime.errors import EngineError, SettingError
from pleinair.runtime.model.bundle import Bundle

from . import environments, machine
from .process import run_fresh
from .quality import PROMPTS
from .systems import optimum_intel

_SAMPLES = 200  # optimum-intel's own number


def add_to(commands: Any) -> None:
    about = "quantize a model as optimum-intel does best, in its own environment, for `peers`"
    parser = commands.add_parser("hybrid", help=about, description=about)
    parser.add_argument("model", type=Path, help="a converted model folder, with OpenVINO graphs")
    parser.add_argument("folder", type=Path, help="the folder to write")
    parser.add_argument(
        "--samples",
        type=int,
        default=_SAMPLES,
        help="calls of the UNet that are looked at; of random weights a few will do "
        f"(default: {_SAMPLES})",
    )
    environments.add_arguments(parser)
    machine.add_threads(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if options.samples < 1:
        raise SettingError(f"samples is {options.samples}; give 1 or more")
    if options.folder.exists():
        raise SettingError(f"{options.folder} exists; remove it or choose another folder")
    Bundle.open(options.model)
    python = environments.interpreters(options.environments, options.environment).get(
        "optimum_intel"
    )
    if python is None:
        raise EngineError("no environment has optimum_intel; make it with: environments optimum")
    job = {
        "model": str(options.model),
        "folder": str(options.folder),
        "prompts": list(PROMPTS),
        "samples": options.samples,
        "threads": options.threads,
    }
    run_fresh(f"{optimum_intel.__name__}:quantize", job, python=python)
    _complete(options.model, options.folder)
    print(options.folder)
    return 0


def _complete(model: Path, folder: Path) -> None:
    """Add what other systems look for in the folder, and optimum-intel leaves out."""
    for file in (model / "tokenizer").glob("openvino_*"):
        shutil.copy(file, folder / "tokenizer")
    for tiny in model.glob("vae_decoder_tiny"):
        shutil.copytree(tiny, folder / tiny.name, dirs_exist_ok=True)
