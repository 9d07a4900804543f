"""Candidates measured in turn, and which of them is faster than the default beyond the noise."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..errors import EngineError
from ..speed.spread import Spread
from .candidates import Candidate

# Times the best of the first round: what is slower takes no further part.
_SLOW = 2.0


@dataclass
class Contest:
    """Candidates measured in turn, A B C and A B C again, so that drift of the machine hits all.

    The first is the default. seconds: candidate -> its measurement in each round that it took
    part in; out: candidate -> why it left.
    """

    candidates: Sequence[Candidate]
    rounds: int
    seconds: dict[Candidate, list[float]] = field(default_factory=dict)
    out: dict[Candidate, str] = field(default_factory=dict)

    def run(self, measure: Callable[[Candidate, float], float], tell: Callable[[], object]) -> None:
        """measure: seconds of a candidate, told the least so far, beside which it may give up.

        tell: hears of every turn that is over, those included that nobody takes any more.
        Raises EngineError where the default cannot be measured.
        """
        for number in range(self.rounds):
            alone = len(self.out) == len(self.candidates) - 1
            for candidate in self.candidates:
                if candidate not in self.out and not (alone and number):
                    self._turn(candidate, measure)
                tell()
            if number == 0:
                self._thin_out()

    def _turn(self, candidate: Candidate, measure: Callable[[Candidate, float], float]) -> None:
        best = min((min(taken) for taken in self.seconds.values()), default=math.inf)
        try:
            self.seconds.setdefault(candidate, []).append(measure(candidate, best))
        except EngineError as error:
            if candidate == self.candidates[0]:
                raise
            self.seconds.pop(candidate)
            self.out[candidate] = str(error)

    def _thin_out(self) -> None:
        best = min(min(taken) for taken in self.seconds.values())
        for candidate, taken in self.seconds.items():
            if candidate != self.candidates[0] and taken[0] > _SLOW * best:
                self.out[candidate] = "too slow in the first round"

    @property
    def best(self) -> Candidate:
        """The fastest of those that beat the default beyond the spread; else the default.

        Beyond it: its slowest round was faster than the default's fastest.
        """
        default, *others = self.candidates
        least = min(self.seconds[default])
        clear = [
            candidate
            for candidate in others
            if candidate not in self.out and max(self.seconds[candidate]) < least
        ]
        return min(clear, key=lambda one: statistics.median(self.seconds[one]), default=default)

    def spread(self, candidate: Candidate) -> Spread | None:
        return Spread.of(self.seconds.get(candidate, ()))

    def ratio(self, candidate: Candidate) -> Spread | None:
        """The default's seconds over the candidate's, round by round."""
        default, measured = self.seconds[self.candidates[0]], self.seconds.get(candidate, [])
        return Spread.of(first / second for first, second in zip(default, measured, strict=False))
