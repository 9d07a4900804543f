"""How fast one model is, in every combination of what can be chosen, and how fast it could be."""

import argparse
from typing import Any

from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.engines.choice import ENGINES
from pleinair.runtime.errors import SettingError
from pleinair.runtime.model import catalog
from pleinair.runtime.options.groups import PRECISIONS
from pleinair.runtime.speed.profiles import PROFILES

from . import configuration, machine, results
from .configuration import Configuration
from .painting import arguments
from .report import Report
from .way import Way

_PROMPT = "a photograph of an astronaut riding a horse"


def add_to(commands: Any) -> None:
    about = "time one model: engines, devices, precisions, profiles, sizes, steps, and a roofline"
    parser = commands.add_parser("speed", help=about, description=about)
    parser.add_argument("model", help="a converted model: a folder or a known name")
    engines = [name for name in ENGINES if name != "auto"]
    parser.add_argument(
        "--engines",
        choices=engines,
        default=engines,
        nargs="+",
        metavar="ENGINE",
        help="default: both",
    )
    parser.add_argument(
        "--devices", nargs="+", metavar="DEVICE", help="default: all that an engine finds here"
    )
    parser.add_argument(
        "--precisions",
        choices=PRECISIONS,
        nargs="+",
        metavar="PRECISION",
        help=f"out of {', '.join(PRECISIONS)} (default: each profile's own)",
    )
    parser.add_argument(
        "--profiles",
        default=list(PROFILES),
        nargs="+",
        metavar="PROFILE",
        help="each a profile, or a profile and settings, as fast,vae=tiny "
        f"(default: {' '.join(PROFILES)})",
    )
    parser.add_argument(
        "--sizes",
        type=_size,
        nargs="+",
        metavar="SIZE",
        help="as 512 or 512x768 (default: the model's own)",
    )
    parser.add_argument(
        "--steps", type=int, nargs="+", metavar="N", help="default: the model's own"
    )
    parser.add_argument(
        "--guidance", type=float, nargs="+", metavar="G", help="default: the model's own"
    )
    parser.add_argument(
        "--batch",
        type=int,
        default=[1],
        nargs="+",
        metavar="N",
        help="pictures a call (default: 1)",
    )
    parser.add_argument("--scheduler", help="default: the model's own")
    parser.add_argument("--prompt", default=_PROMPT, help=f"default: {_PROMPT}")
    parser.add_argument(
        "--warm-up", type=int, default=2, help="steps of an untimed picture first (default: 2)"
    )
    parser.add_argument("--repeats", type=int, default=1, help="calls a process (default: 1)")
    parser.add_argument("--rounds", type=int, default=3, help="processes each (default: 3)")
    machine.add_threads(parser)
    results.add_arguments(parser, picture="chart")
    parser.set_defaults(run=run)


def _size(text: str) -> tuple[int, int]:
    sides = [int(side) for side in text.split("x")]  # argparse makes an error of a ValueError
    if len(sides) not in (1, 2):
        raise ValueError(text)
    return sides[0], sides[-1]


def run(options: argparse.Namespace) -> int:
    results.check(options, "rounds", "repeats", "threads")
    if options.warm_up < 0:
        raise SettingError(f"warm_up is {options.warm_up}; give 0 or more")
    report = Report(_configurations(options), machine.facts(), vars(options))
    code = 0
    try:
        report.measure(_shared(options))
    except KeyboardInterrupt:
        code = 130
    if not code:
        report.check()
    results.publish(options, report.as_json(), report.markdown(), report.draw)
    return code


def _configurations(options: argparse.Namespace) -> dict[str, Configuration]:
    """Checked as the runtime checks them, before any process is started."""
    pipe = StableDiffusionPipeline.from_pretrained(options.model)
    usual = pipe.family.recommended
    found = configuration.combined(
        options.engines,
        options.devices,
        options.precisions,
        [Way.read(text) for text in dict.fromkeys(options.profiles)],
        options.sizes or [(usual.size, usual.size)],
        options.steps or [usual.steps],
        options.guidance or [usual.guidance_scale],
        options.batch,
    )
    shared = _shared(options)
    for one in found.values():
        if one.batch < 1:
            raise SettingError(f"batch is {one.batch}; give 1 or more")
        pipe.plan(**arguments(one.job(shared) | {"way": "exact"}, pipe.family))
    return found


def _shared(options: argparse.Namespace) -> dict[str, Any]:
    names = ("scheduler", "prompt", "warm_up", "repeats", "threads")
    shared = {name: getattr(options, name) for name in names}
    return shared | {"model": str(catalog.find(options.model)), "seed": 42}
