"""`pleinair batch`: a file of lines painted, on this machine or on a Ray cluster.

A picture's file has its line's number as its name, and says how it was made. So nothing else has to
be kept: a line is done where its file stands whole, whoever was stopped or killed meanwhile.
"""

import json
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from pleinair.runtime.cli.compare import Comparison
from pleinair.runtime.cli.paint import WITHHELD
from pleinair.runtime.cli.parser import Parser, whole_number
from pleinair.runtime.cli.progress import StageBars
from pleinair.runtime.errors import PleinairError, PromptError, SettingError
from pleinair.runtime.exits import MISTAKE, tell
from pleinair.runtime.record import metadata
from pleinair.runtime.record.programs.pleinair import KEY
from pleinair.runtime.record.saving import check_target, sweep, write

from . import lines, settings
from .lines import Line, Lines
from .made import Made, made
from .models import Models
from .settings import Settings

EPILOG = """\
A line is a JSON object in the terms of a call of the library:

    {"prompt": "a red apple", "seed": 7, "num_inference_steps": 25}

It may name its model and profile, and LoRA files and ControlNets with their weights, as
{"loras": {"ink": 0.8}}. Pictures are files beside the lines. A line without a seed is painted from
--seed and its place in the file. Run the same command again to go on with what is missing.
"""
_SETUP = (
    *("model", "profile", "loras", "controlnet"),
    *("engine", "device", "threads", "max_memory", "ray"),
)
"""The server's options that a batch has, too."""
_AMPLE: dict[str, Any] = {"max_pixels": 80_000_000, "max_steps": 10_000, "max_prompt": 1_000_000}
"""A batch is its user's own: what bounds strangers does not bound it."""
_OWNER = "batch"
_OF_MACHINE = frozenset({"engine", "device", "precision", "version"})
"""What a picture's file says of who painted it, and not of what was asked."""
_EVERY = 60.0
"""Seconds from one word on progress to the next, where nobody watches bars."""


def main(words: Sequence[str]) -> int:
    """Paint what is missing; returns 2 where lines were left out, else 3 where some are withheld.

    Raises PleinairError where it cannot begin.
    """
    options = parser().parse_args(words)
    setup = replace(settings.gathered(vars(options), _SETUP), **_AMPLE)
    cells = Comparison.parsed(options.compare).cells() if options.compare else ()
    asked = lines.read(options.file, options.seed, cells)
    models = Models.of(setup)
    good, bad = _planned(asked, models)
    waiting = [line for line, record in good if not _there(options.outdir / line.file, record)]
    if len(waiting) < len(good):
        tell(f"{len(good) - len(waiting)} of {len(good)} pictures are there already")
    withheld = False
    if waiting:
        check_target(options.outdir / waiting[0].file, _OWNER)
        sweep(options.outdir, _OWNER)
        errors, withheld = _painted(waiting, models, setup if setup.ray else None, options.outdir)
        bad |= errors
    for number, what in sorted(bad.items()):
        tell(f"{options.file}: line {number} left out: {what}")
    return MISTAKE if bad else WITHHELD if withheld else 0


def parser() -> Parser:
    command = Parser(
        "pleinair batch",
        description="Paint the pictures that a file's lines ask for, what is missing of them.",
        epilog=EPILOG,
    )
    command.add_argument("file", type=Path, metavar="FILE", help="JSON objects, one a line")
    command.add_argument(
        "--outdir",
        type=Path,
        required=True,
        metavar="DIR",
        help="where the pictures go: 00001.png is the first line's",
    )
    command.add_argument(
        "--seed",
        type=whole_number,
        default=0,
        metavar="N",
        help="line i, counted from 0, is painted from N + i where it has no seed (default: 0)",
    )
    command.add_argument(
        "--compare",
        nargs="+",
        metavar="NAME=VALUES",
        help="paint each line with all of these, as steps=10,25 scheduler=euler,dpmpp_2m: "
        "00001-00.png, 00001-01.png …",
    )
    settings.add_to(command, _SETUP)
    return command


def _planned(
    asked: Lines, models: Models
) -> tuple[list[tuple[Line, Mapping[str, Any]]], dict[int, str]]:
    """The lines that can be painted, each with how its picture is made; what is wrong with others.

    Every line is planned before one is painted. Raises PromptError where none can be.
    """
    good: list[tuple[Line, Mapping[str, Any]]] = []
    bad = dict(asked.bad)
    for line in asked.lines:
        try:
            settled = line.asked.settled(models.named(line.asked.model))
            plan = models.plan(settled)
            record = models.described(settled, plan)
        except PleinairError as error:
            bad[line.number] = str(error)
        else:
            good.append((replace(line, asked=settled), record))
    good = [(line, record) for line, record in good if line.number not in bad]
    if not good:
        number, what = min(bad.items())
        raise PromptError(f"no line can be painted; line {number}: {what}")
    return good, bad


def _painted(
    waiting: Sequence[Line], models: Models, ray: Settings | None, folder: Path
) -> tuple[dict[int, str], bool]:
    """Paint the lines and save each picture as it is done.

    ray: what the painters of a cluster are set up with; None paints here.
    Returns what was wrong with lines, by their numbers, and whether a picture was withheld.
    """
    numbers = {line.file: line.number for line in waiting}
    errors: dict[int, str] = {}
    withheld = False
    with StageBars(len(waiting)) as bars:
        painting = _on_cluster(waiting, ray) if ray else _here(waiting, models, bars)
        remaining = Remaining(len(waiting))
        with closing(painting):
            for one in painting:
                if one.error:
                    errors[numbers[one.file]] = one.error
                elif one.withheld:
                    withheld = True
                    tell(f"line {numbers[one.file]}: withheld: {one.withheld}")
                else:
                    print(write(one.data, folder / one.file, _OWNER), flush=True)
                bars.picture_done()
                remaining.tell()
    return errors, withheld


def _here(waiting: Sequence[Line], models: Models, bars: StageBars) -> Generator[Made, None, None]:
    for line in sorted(waiting, key=lambda one: one.setup):
        yield made(line, models, bars)


def _on_cluster(waiting: Sequence[Line], setup: Settings) -> Generator[Made, None, None]:
    from .cluster.pool import painted

    yield from painted(sorted(waiting, key=lambda one: one.setup), setup)


def _there(path: Path, record: Mapping[str, Any]) -> bool:
    """Whether a line's picture stands there, whole; one that is not is removed.

    record: how it is made. Raises SettingError where the picture was made otherwise.
    """
    if not path.exists():
        return False
    try:
        with Image.open(path) as image:
            recorded = json.loads(image.info.get(KEY, "{}"))
            image.verify()
    except (OSError, SyntaxError, ValueError):  # what Pillow's reader trips over
        tell(f"{path}: no whole picture; it is painted anew")
        path.unlink()
        return False
    wanted = json.loads(metadata.described(record)[KEY])
    if _asked_of(recorded) != _asked_of(wanted):
        raise SettingError(
            f"{path}: stands there and is another picture; give another --outdir, or remove it"
        )
    return True


def _asked_of(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in _OF_MACHINE}


class Remaining:
    """Tells now and then how many pictures are done, and how long the others take.

    Silent where bars are watched: they say it.
    """

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._begun = self._told = time.monotonic()

    def tell(self) -> None:
        """A picture is done."""
        self._done += 1
        now = time.monotonic()
        if sys.stderr.isatty() or now - self._told < _EVERY:
            return
        self._told = now
        left = (now - self._begun) / self._done * (self._total - self._done)
        tell(f"{self._done} of {self._total} pictures; about {_span(left)} left")


def _span(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
