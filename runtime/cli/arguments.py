"""The options of the painting command, with the names that other systems' users type."""

import argparse
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .. import __version__
from ..engines.choice import ENGINES
from ..families import FAMILIES, GROUPS
from ..images.watermark import COMPVIS
from ..options.groups import (
    Control,
    Enlarging,
    Noise,
    Opening,
    Picture,
    Prompting,
    Reuse,
    Sampling,
    Size,
)
from ..options.option import Option, declared
from .help import Help
from .parser import Parser, number, whole_number

DEFAULT_OUTDIR = Path("outputs/txt2img-samples")

EPILOG = """\
examples:
  pleinair "a red apple, noto style, on a blue background"
  pleinair "a rocket" --n-samples 4 --steps 20 --seed 7
  pleinair --from-file prompts.txt --outdir sheets
  pleinair "a rocket" --enlarge 4
  pleinair --params-from a.png --seed 8        the same again, from another seed
  pleinair "a rocket" --compare steps=10,25,50 scheduler=euler,dpmpp_2m
  pleinair "a house" --controlnet models/canny --control-image canny:a.png
"""

_TYPES = {int: whole_number, float: number}
OPTIONS: Mapping[str, Option] = {
    name: one for group in (*GROUPS, Opening) for name, one in declared(group).items() if one.flags
}
BETAS = tuple(name for name in declared(Opening) if name.startswith("beta"))
"""Options of the model's scheduler, set before any call."""
CALL = tuple(name for name, one in OPTIONS.items() if one.recorded and name not in BETAS)
"""What a picture's file says, `--params-from` takes over, a prompt's line and `--compare` set."""
PICTURES = tuple(
    name
    for group in (Picture, Control)
    for name, one in declared(group).items()
    if not one.recorded
)
"""Never restored by --params-from: a stranger's picture must not make us open files."""


def given(options: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """Those options that have a value, by the names of a call's arguments."""
    values = {name: getattr(options, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def pictures(options: argparse.Namespace) -> dict[str, Any]:
    """The pictures to start from and to follow, by the names of a call's arguments."""
    return {name: value for name in PICTURES if (value := getattr(options, name))}


def by_flag(names: Iterable[str]) -> Mapping[str, Option]:
    """Every way to type an option, without its dashes: steps, ddim_steps, …"""
    return {
        word: OPTIONS[name]
        for name in names
        for flag in (*OPTIONS[name].flags, name)
        for word in {flag.lstrip("-"), flag.lstrip("-").replace("-", "_")}
    }


def add(group: argparse._ActionsContainer, *names: str) -> None:
    """Add options as they are declared; None, their default, is not given."""
    for name in names:
        one = OPTIONS[name]
        words = one.help
        if one.choices and not all(choice in words for choice in one.choices()):
            words = f"{words}; one of: {', '.join(one.choices())}"
        if one.type is bool:
            group.add_argument(*one.flags, dest=name, action="store_true", help=words)
            continue
        group.add_argument(
            *one.flags,
            dest=name,
            type=_TYPES.get(one.type, str),
            action="append" if name == "control_image" else "store",
            metavar=one.metavar,
            help=words,
        )


def _flagged(*groups: Any, without: Iterable[str] = ()) -> list[str]:
    """The options of groups that have flags, by name."""
    names = (name for group in groups for name, one in declared(group).items() if one.flags)
    return [name for name in names if name not in set(without)]


def parser() -> Parser:
    """The painting command's options; words that belong to none are the prompt's."""
    top = Parser(
        "pleinair",
        usage="pleinair [PROMPT] [options]",
        description="Paint pictures from text with Stable Diffusion, on the CPU.",
        epilog=EPILOG,
        add_help=False,
    )
    _what(top.add_argument_group("what to paint"))
    _picture(top.add_argument_group("a picture to start from"))
    _control(top.add_argument_group("a picture to follow"))
    _how(top.add_argument_group("how to paint it"))
    _kinds(top.add_argument_group("for some kinds of models"))
    _fast(top.add_argument_group("how fast"))
    _large(top.add_argument_group("size, and large pictures"))
    _where(top.add_argument_group("where it goes"))
    _model(top.add_argument_group("model and machine"))
    _about(top.add_argument_group("about the command"))
    return top


def _what(group: argparse._ArgumentGroup) -> None:
    source = group.add_mutually_exclusive_group()
    add(source, "prompt")
    source.add_argument(
        "--from-file",
        "--from_file",
        type=Path,
        metavar="FILE",
        help="one prompt a line, UTF-8, with options of its own behind it: a cat --seed 7; a job "
        "that was stopped goes on where it was; - is the standard input",
    )
    add(group, *_flagged(Prompting, without=["prompt"]))
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
        "--n_samples",
        "--n-samples",
        "--num-images",
        type=whole_number,
        default=1,
        metavar="N",
        help="pictures a prompt",
    )
    group.add_argument(
        "--n_iter",
        "--n-iter",
        type=whole_number,
        default=1,
        metavar="N",
        help="how often those are drawn",
    )
    group.add_argument(
        "--compare",
        nargs="+",
        metavar="NAME=A,B",
        help="one picture for each value, on a sheet with labels: steps=10,25,50; a second one "
        "makes rows, a third more sheets; also size=512x512,512x768 and prompt=a cat|a dog",
    )


def _picture(group: argparse._ArgumentGroup) -> None:
    add(group, *_flagged(Picture))


def _control(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--controlnet",
        action="append",
        default=[],
        metavar="FOLDER[:WEIGHT]",
        help="a converted ControlNet and how much of it; may be repeated",
    )
    add(group, *_flagged(Control))


def _how(group: argparse._ArgumentGroup) -> None:
    add(group, *_flagged(Sampling, without=["scheduler"]), *_flagged(Noise))
    group.add_argument(
        "--fixed_code",
        "--fixed-code",
        action="store_true",
        help="the same start noise for all pictures",
    )
    solver = group.add_mutually_exclusive_group()
    add(solver, "scheduler")
    solver.add_argument(
        "--plms", action="store_const", const="plms", dest="scheduler", help="as --scheduler plms"
    )
    solver.add_argument(
        "--dpm_solver",
        "--dpm-solver",
        action="store_const",
        const="dpmpp_2m",
        dest="scheduler",
        help="as --scheduler dpmpp_2m",
    )
    add(group, *BETAS)


def _kinds(group: argparse._ArgumentGroup) -> None:
    """What the families have for themselves."""
    add(group, *_flagged(*dict.fromkeys(family.options for family in FAMILIES)))


def _fast(group: argparse._ArgumentGroup) -> None:
    add(group, "profile", "precision", *_flagged(Reuse))


def _large(group: argparse._ArgumentGroup) -> None:
    add(group, *_flagged(Size, Enlarging))


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
    group.add_argument("--skip_grid", "--skip-grid", action="store_true", help="no contact sheet")
    group.add_argument(
        "--n_rows",
        "--n-rows",
        type=whole_number,
        default=0,
        metavar="N",
        help="pictures in a row of the sheet",
    )
    group.add_argument(
        "--skip_save", "--skip-save", action="store_true", help="save no pictures: for timing"
    )
    add(group, "safety")
    group.add_argument(
        "--preview",
        metavar="FILE",
        help="show the picture while it is painted: a .png that is replaced, or the word terminal",
    )
    group.add_argument(
        "--preview-every",
        type=whole_number,
        default=1,
        metavar="N",
        help="steps (default: %(default)s)",
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
        help="folder, catalog name, hub id or checkpoint file (a checkpoint, also a folder of "
        "diffusers, is converted once; default: the bundled model)",
    )
    group.add_argument("--tokenizer", metavar="FOLDER", help="for models that come without one")
    # So that command lines of CompVis's scripts work: what they say of a model, a folder knows.
    group.add_argument("--config", metavar="FILE", help="of a checkpoint file: its .yaml")
    group.add_argument(
        "--C", type=whole_number, metavar="N", help="checked: the model's latent channels"
    )
    group.add_argument(
        "--f", type=whole_number, metavar="N", help="checked: pixels to a latent's side"
    )
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
        "--threads", type=whole_number, metavar="N", help="default: the physical cores"
    )
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


def _about(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-h", "--help", action=Help, metavar="all", help="all: every option")
    group.add_argument(
        "--version", action="version", version=f"pleinair {__version__}", help="of the program"
    )
    group.add_argument(
        "--no-config",
        action="store_true",
        help="read no pleinair.toml, neither yours nor that of the folder you are in",
    )
    group.add_argument(
        "--debug", action="store_true", help="of an error the traceback, too; as PLEINAIR_DEBUG=1"
    )


@functools.cache
def flags() -> Mapping[str, str]:
    """Argument of a call, or of opening a model -> the flag that stands for it."""
    first = {one.dest: one.option_strings[0] for one in reversed(list(parser().options()))}
    others = {"loras": "lora", "embeddings": "embedding"}
    return {**first, **{name: first[dest] for name, dest in others.items()}}
