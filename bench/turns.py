"""Things measured in turn, A B C and A B C again, so that drift of the machine hits all alike."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pleinair.runtime.errors import EngineError

from .process import run_fresh
from .progress import bars
from .rounds import Record, Rounds


@dataclass(frozen=True)
class Turn:
    """A job for a fresh process: see `process.run_fresh`."""

    target: str
    job: dict[str, Any]
    python: str | None = None


@dataclass
class Turns:
    """What has been measured, and what could not be.

    rounds: a record for each turn taken. skipped: name -> reason.
    """

    rounds: Rounds
    skipped: dict[str, str] = field(default_factory=dict)

    def measure(
        self, turns: Mapping[str, Turn], rounds: int, tell: Callable[[Record], str] = lambda _: ""
    ) -> int:
        """Take turns, as `take`; 0, or 130 where it is interrupted, with what was measured so far.

        Raises `nothing` where nothing could be measured.
        """
        try:
            self.take(turns, rounds, tell)
        except KeyboardInterrupt:
            return 130
        self.check()
        return 0

    def take(
        self, turns: Mapping[str, Turn], rounds: int, tell: Callable[[Record], str] = lambda _: ""
    ) -> None:
        """Each turn once a round, by its name; one that fails is skipped from then on.

        tell: the words on a record that are printed when it comes.
        """
        with bars() as progress:
            task = progress.add_task("", total=rounds * len(turns))
            everything = itertools.product(range(1, rounds + 1), turns.items())
            for done, (number, (name, turn)) in enumerate(everything):
                what = f"round {number} of {rounds}: {name}"
                progress.update(task, description=what, completed=done)
                if name in self.skipped:  # it failed in an earlier round
                    continue
                report = _reporter(progress, task, done)
                if found := self._once(name, number, turn, report):
                    words = tell(found)
                else:
                    words = f"skipped: {self.skipped[name]}"
                if words:
                    progress.console.print(f"{what}: {words}")
            progress.update(task, completed=rounds * len(turns))

    def _once(
        self, name: str, number: int, turn: Turn, report: Callable[[float], object]
    ) -> Record | None:
        """The record of one turn; None where it failed."""
        try:
            result = run_fresh(turn.target, turn.job, report, turn.python)
        except EngineError as error:
            self.skipped[name] = f"failed in round {number}: {error}"
            return None
        self.rounds.records.append({"name": name, "round": number} | result)
        return self.rounds.records[-1]

    def check(self) -> None:
        """Raise `nothing` where nothing was measured."""
        if not self.rounds.records:
            raise self.nothing()

    def nothing(self) -> EngineError:
        """What to raise where nothing was measured: all reasons."""
        reasons = (f"{name}: {reason}" for name, reason in self.skipped.items())
        return EngineError(f"nothing could be measured: {'; '.join(reasons)}")

    def as_json(self) -> dict[str, Any]:
        return {"skipped": self.skipped} | self.rounds.as_json()

    def markdown(self) -> str:
        """The tables, and a line for each thing that was skipped."""
        skipped = [f"{name}: skipped: {reason}" for name, reason in self.skipped.items()]
        return "\n\n".join([self.rounds.markdown(), *skipped])


def _reporter(progress: Any, task: Any, done: int) -> Callable[[float], object]:
    return lambda share: progress.update(task, completed=done + share)
