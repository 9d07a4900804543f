"""How long a run takes: by what steps of this kind took before, else by its own first steps."""

import contextlib
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..engines.cache import cache_folder
from ..errors import Message, PleinairError
from ..exits import tell
from ..files import read_json, replacing
from ..model import catalog
from ..pipeline import StableDiffusionPipeline
from ..plan import Plan
from ..speed.profiles import EIGHT_BIT
from .arguments import flags

LONG = 60.0
"""Seconds of a run that is announced."""
TOO_LONG = 240.0
"""Seconds of one for which a person at a terminal is told of quicker ways."""
_MOST = 200
"""Kinds of steps that are remembered."""
_FEW_STEPS = 20


class Speeds:
    """Seconds a step, as measured here, in a file among what can be made again."""

    def __init__(self, file: Path | None) -> None:
        self._file = file

    @classmethod
    def of_user(cls) -> "Speeds":
        folder = cache_folder()
        return cls(folder and folder / "speeds.json")

    def known(self, kind: str) -> float | None:
        value = self._read().get(kind)
        return value if isinstance(value, float) and 0 < value < 1e6 else None

    def remember(self, kind: str, seconds: float) -> None:
        """Where that cannot be done, nothing happens: it is measured again."""
        if self._file is None:
            return
        known = {**self._read(), kind: seconds}
        newest = dict(list(known.items())[-_MOST:])
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self._file) as part:
                part.write_text(json.dumps(newest), encoding="utf-8")

    def _read(self) -> dict[str, Any]:
        with contextlib.suppress(PleinairError):
            return read_json(self._file, optional=True) if self._file else {}
        return {}


class Estimate:
    """Says once how long a run of several pictures will take, where that is long.

    An instance is the pipeline's `callback_on_stage`; it passes everything on to `bars`.
    watched: whether somebody sits at a terminal, who may want it quicker.
    """

    def __init__(
        self,
        pictures: int,
        bars: Callable[[str, int, int], object],
        speeds: Speeds,
        watched: bool,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._left = pictures
        self._bars, self._speeds, self._watched, self._clock = bars, speeds, watched, clock
        self._pipe: StableDiffusionPipeline | None = None
        self._plan: Plan | None = None
        self._first = 0.0
        self._said = False

    def begins(self, pipe: StableDiffusionPipeline, plan: Plan) -> None:
        """A picture is about to be painted."""
        self._pipe, self._plan = pipe, plan
        passes = [one for one in (plan, plan.then) if one]
        known = [self._speeds.known(_kind(pipe, one)) for one in passes]
        seconds = [
            each * len(one.timesteps) for each, one in zip(known, passes, strict=True) if each
        ]
        if len(seconds) == len(passes):
            self._say(sum(seconds))

    def painted(self, seconds: list[float]) -> None:
        """It is painted; `seconds` are those of its steps, the first pass's first."""
        assert self._pipe is not None
        assert self._plan is not None
        self._left -= 1
        steps = len(self._plan.timesteps)
        for one, taken in ((self._plan, seconds[:steps]), (self._plan.then, seconds[steps:])):
            if one is not None and taken:
                self._speeds.remember(_kind(self._pipe, one), round(statistics.mean(taken), 4))

    def __call__(self, stage: str, done: int, total: int) -> None:
        self._bars(stage, done, total)
        if self._said or stage not in ("denoise", "enlarge"):
            return
        if done == 1:
            self._first = self._clock()
        elif done == 3:  # two whole ones behind the first, in which caches are filled
            each = (self._clock() - self._first) / 2
            self._say(each * total)

    def _say(self, picture: float) -> None:
        """Once, by what a picture takes."""
        if self._said:
            return
        self._said, seconds = True, picture * self._left
        if seconds < LONG:
            return
        of = f" for {self._left} pictures" if self._left > 1 else ""
        quicker = self._quicker() if self._watched and seconds > TOO_LONG else []
        ways = f"; quicker: {', '.join(quicker)}" if quicker else ""
        tell(f"about {_minutes(seconds)} ahead{of}{ways}")

    def _quicker(self) -> list[str]:
        """What would take less time, of what this model has."""
        assert self._pipe is not None
        assert self._plan is not None
        ways, settings = [], self._plan.settings
        bundle, family = self._pipe.bundle, self._pipe.family
        if not self._pipe.profile.eight_bit:
            if bundle.has(EIGHT_BIT.format(family.denoiser)):
                ways.append("--profile balanced")
            elif bundle.path != catalog.bundled():  # which is not the user's to change
                ways.append(f"--profile balanced after pleinair quantize {bundle.path}")
        if settings.steps > _FEW_STEPS:
            ways.append(f"--steps {_FEW_STEPS}")
        if settings.width * settings.height > family.recommended.size**2:
            ways.append(Message("a smaller {width} and {height}").spelled(flags()))
        return ways


def _kind(pipe: StableDiffusionPipeline, plan: Plan) -> str:
    """What steps have to have in common to take equally long."""
    settings, tiles = plan.settings, plan.tiles
    steps = max(1, len(plan.timesteps))
    asked = (f"{name}:{count / steps:.2f}" for name, count in plan.evaluations.items())
    facts = (
        pipe.bundle.name,
        pipe.bundle.digest,
        pipe.profile.name,
        pipe.engine.name,
        pipe.engine.device,
        pipe.engine.precision,
        f"{settings.width}x{settings.height}",
        f"{tiles.tile[0]}x{tiles.tile[1]}",
        *asked,
        len(settings.guidance.batches[0]),
        len(pipe.controlnets),
    )
    return " ".join(map(str, facts))


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
