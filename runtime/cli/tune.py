"""`pleinair tune`: what paints a model fastest on this machine, measured and kept."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import families
from ..engines import cores
from ..engines.choice import ENGINES
from ..engines.openvino import native_precision
from ..errors import SettingError
from ..exits import tell
from ..model.bundle import Bundle
from ..speed import machine
from ..speed.profiles import PROFILES
from ..speed.spread import Spread
from ..speed.tuning import Tuning, file_for, installed
from .candidates import Candidate, candidates, described
from .contest import Contest
from .cost import Cost
from .parser import Parser, number, whole_number
from .progress import StageBars
from .trial import Trial

EPILOG = """\
Every setup, an engine and a number of CPU threads, computes a few steps in each round, in turn. One
is taken in place of the default where it was faster in all its rounds than the default in any. Then
each profile that the folder holds paints the same pictures: that is what it gains, and what it
costs, as PSNR against the exact profile's. The result stands in a file of the user's own settings,
which the last line names; engine "auto" follows it.
"""
_PROMPTS = (
    "a red apple",
    "a lighthouse on a cliff in a storm, oil painting",
    "a portrait of an old fisherman, black and white photograph",
    "a snowy mountain village at night, lights in the windows",
)
_PSNR = 28.0


def tune(argv: Sequence[str]) -> int:
    options = parser().parse_args(argv)
    for name in ("rounds", "size"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise SettingError(f"{name} is {value}; give 1 or more")
    if options.pictures < 0:
        raise SettingError(f"pictures is {options.pictures}; give 0 or more")
    family = families.open_model(options.model)
    bundle = family.bundle
    size = family.recommended.size if options.size is None else options.size
    try:
        contests, cost = _measured(
            Trial(family, size), options.rounds, options.pictures, _prompts(options.prompts)
        )
    except KeyboardInterrupt:
        tell(f"nothing was written; {file_for(bundle)} is as it was")
        raise
    profile = cost.recommended(options.psnr)
    print(_about(bundle, size), _report(contests, cost), sep="\n\n")
    print(f"profile auto: {profile} (the fastest of {options.psnr:g} dB or more)")
    print(_tuning(contests, cost, profile).write(bundle))
    return 0


def parser() -> Parser:
    parser = Parser(
        "pleinair tune",
        description="Measure what paints a model fastest on this machine, and keep it.",
        epilog=EPILOG,
    )
    parser.add_argument("model", help="folder, catalog name or hub id")
    parser.add_argument(
        "--size", type=whole_number, metavar="PIXELS", help="both sides (default: the model's own)"
    )
    parser.add_argument(
        "--rounds",
        type=whole_number,
        default=3,
        metavar="N",
        help="turns of each setup (default: 3)",
    )
    parser.add_argument(
        "--pictures",
        type=whole_number,
        default=3,
        metavar="N",
        help="whole pictures of each profile, with the model's own steps; 0 leaves them out, and "
        "profile auto is then native (default: 3)",
    )
    parser.add_argument(
        "--prompts",
        type=Path,
        metavar="FILE",
        help="what they show, a prompt a line; for a model of narrow taste give its own words",
    )
    parser.add_argument(
        "--psnr",
        type=number,
        default=_PSNR,
        metavar="DB",
        help="profile auto is the fastest whose median PSNR against exact is at least this "
        f"(default: {_PSNR:g})",
    )
    return parser


def _prompts(file: Path | None) -> Sequence[str]:
    if file is None:
        return _PROMPTS
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"{file}: cannot be read: {error}") from error
    if texts := [line.strip() for line in lines if line.strip()]:
        return texts
    raise SettingError(f"{file}: holds no prompt")


def _measured(
    trial: Trial, rounds: int, pictures: int, prompts: Sequence[str]
) -> tuple[dict[str, Contest], Cost]:
    """Profile -> its contest, the same one for profiles that compute alike; and what they cost."""
    held, native = candidates(trial.family), native_precision()
    of_graphs: dict[tuple[bool, str], Contest] = {}
    contests = {}
    for name, listed in held.items():
        profile = PROFILES[name]
        alike = profile.eight_bit, native if profile.precision == "auto" else profile.precision
        contests[name] = of_graphs.setdefault(alike, Contest(listed, rounds))
    painted = pictures * len(held) if len(held) > 1 else 0  # else there is nothing to compare
    turns = sum(rounds * len(contest.candidates) for contest in of_graphs.values())
    cost = Cost()
    with StageBars(turns + painted, what="measurements") as bars:
        trial.tell = bars
        for contest in of_graphs.values():
            contest.run(trial.seconds_a_step, bars.picture_done)
        for i in range(painted // len(held)):
            for name, contest in contests.items():
                candidate = Candidate(name, contest.best.setup)
                cost.add(name, *trial.picture(candidate, prompts[i % len(prompts)], seed=i))
                bars.picture_done()
    return contests, cost


def _tuning(contests: Mapping[str, Contest], cost: Cost, profile: str) -> Tuning:
    figures: dict[str, dict[str, Any]] = {name: {} for name in contests}
    for name, contest in contests.items():
        taken = contest.spread(contest.best)
        if taken and contest.best.profile == name:
            figures[name]["seconds_a_step"] = round(taken.median, 4)
        if name in cost.seconds and (likeness := cost.psnr(name)):
            same = math.isinf(likeness.median)
            figures[name]["seconds_a_picture"] = round(statistics.median(cost.seconds[name]), 3)
            figures[name]["psnr_db"] = None if same else round(likeness.median, 2)
            figures[name]["pictures"] = len(cost.seconds[name])
    setups = {name: contest.best.setup for name, contest in contests.items()}
    return Tuning(profile, setups, figures)


def _about(bundle: Bundle, size: int) -> str:
    """What was measured, and where."""
    versions = (f"{name} {found}" for name in ENGINES[1:] if (found := installed(name)))
    physical, threads = cores.physical_cores(), cores.hardware_threads()
    return (
        f"{bundle.path}, {size}x{size}, on {machine.cpu_name()}: {physical} cores, {threads} "
        f"hardware threads; {', '.join(versions)}"
    )


def _report(contests: Mapping[str, Contest], cost: Cost) -> str:
    """A table of each contest, one of the pictures, and who won."""
    parts, verdicts = [], []
    for contest in {id(contest): contest for contest in contests.values()}.values():
        title = " and ".join(name for name, listed in contests.items() if listed is contest)
        rows = [_row(contest, candidate) for candidate in contest.candidates]
        parts.append(_table((title, "s a step", "times as fast", ""), rows))
        won = contest.best != contest.candidates[0]
        why = "faster than the default" if won else "the default, which nothing beats"
        verdicts.append(f"{title}: {described(contest.best.setup)}: {why} beyond the spread")
    if cost.seconds:
        rows = [
            (name, *map(str, (Spread.of(taken), cost.ratio(name), _decibels(cost, name))))
            for name, taken in cost.seconds.items()
        ]
        header = ("profile", "s a picture", "times as fast", "PSNR dB against exact")
        parts.append(_table(header, rows))
    return "\n\n".join([*parts, "\n".join(verdicts)])


def _row(contest: Contest, candidate: Candidate) -> tuple[str, ...]:
    """Setup, seconds a step, times as fast as the default, remark."""
    taken, ratio = contest.spread(candidate), contest.ratio(candidate)
    remark = "the default" if candidate == contest.candidates[0] else ""
    return (
        described(candidate.setup),
        str(taken or ""),
        str(ratio or ""),
        contest.out.get(candidate, remark),
    )


def _decibels(cost: Cost, name: str) -> str:
    likeness = cost.psnr(name)
    if likeness is None or math.isinf(likeness.median):
        return "" if name == "exact" else "the same"
    return str(likeness)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell."""
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
