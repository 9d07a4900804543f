"""A model painting to be measured, with one setup after the other."""

import itertools
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..engines.choice import choose
from ..families.family import Family
from ..pipeline import StableDiffusionPipeline
from ..speed.profiles import Profile
from .candidates import Candidate

# Steps asked for in a turn, which ends when enough of them are timed: so many, and so many seconds.
_STEPS, _ENOUGH, _SECONDS = 20, 2, 2.0
# Times what the best one takes: a step as slow ends the turn.
_HOPELESS = 4.0


@dataclass
class Trial:
    """The call that is measured, at one size.

    size: both sides of the pictures, in pixels.
    tell: the pipeline's `callback_on_stage`.
    """

    family: Family
    size: int
    tell: Callable[[str, int, int], object] = lambda *_: None

    def seconds_a_step(self, candidate: Candidate, best: float = math.inf) -> float:
        """The median of a few steps after the first, which touches all memory for the first time.

        best: what another takes; a hopeless one is stopped early.
        """
        marks: list[float] = []

        def on_step(*_: Any) -> bool:
            marks.append(time.perf_counter())
            spent = _gaps(marks)
            enough = len(spent) >= _ENOUGH and sum(spent) >= _SECONDS
            return not (enough or (spent and spent[-1] > _HOPELESS * best))

        self._opened(candidate)(
            "a red apple",
            seed=0,
            num_inference_steps=_STEPS,
            output_type="latent",
            callback_on_step_end=on_step,
            **self._settings(),
        )
        return statistics.median(_gaps(marks))

    def picture(self, candidate: Candidate, prompt: str, seed: int) -> tuple[float, Any]:
        """Seconds from prompt to picture without compiling, and the picture, uint8 (h, w, 3)."""
        pipe = self._opened(candidate)
        output = pipe(prompt, seed=seed, **self._settings())
        seconds = output.timings.total - output.timings.load
        return seconds, np.asarray(output.images[0].convert("RGB"))

    def _opened(self, candidate: Candidate) -> StableDiffusionPipeline:
        """Alone in memory: nothing keeps the one before."""
        setup, graphs = candidate.setup, self.family.bundle.graphs
        precision = Profile.of(candidate.profile).precision
        engine = choose(graphs, setup.engine, "cpu", threads=setup.threads, precision=precision)
        return StableDiffusionPipeline(self.family, engine, profile=candidate.profile)

    def _settings(self) -> dict[str, Any]:
        """Of every call; models that paint from a picture get a grey one."""
        return {
            "width": self.size,
            "height": self.size,
            "safety": "off",
            "callback_on_stage": self.tell,
            **self.family.example_pictures(self.size),
        }


def _gaps(marks: Sequence[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(marks)]
