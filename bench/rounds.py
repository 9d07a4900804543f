"""Things measured in turn, round after round, and compared within each round."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pleinair.runtime.speed.spread import Spread

from .markdown import table

Record = dict[str, Any]
Measure = Callable[[Record], float | None]


@dataclass
class Rounds:
    """What was measured so far.

    baseline: the name that the others are compared with.
    measures: column -> how to read its value from a record; more is worse.
    records: in the order measured, each with its "name" and "round".
    """

    baseline: str
    measures: Mapping[str, Measure]
    records: list[Record] = field(default_factory=list)

    def spreads(self) -> dict[str, dict[str, Spread | None]]:
        """Name -> column -> median and range over the rounds."""
        return {
            name: {
                column: Spread.of(measure(record) for record in self._of(name).values())
                for column, measure in self.measures.items()
            }
            for name in self._names()
        }

    def ratios(self) -> dict[str, dict[str, Spread | None]]:
        """Name -> column -> the baseline's value over its own, taken within each round.

        Above 1 it needs less than the baseline, of time or of memory. A round that the baseline
        is missing from says nothing.
        """
        base = self._of(self.baseline)
        return {
            name: {
                column: Spread.of(
                    _ratio(measure(base[number]), measure(record))
                    for number, record in self._of(name).items()
                    if number in base
                )
                for column, measure in self.measures.items()
            }
            for name in self._names()
            if name != self.baseline and base
        }

    def as_json(self) -> dict[str, Any]:
        return {
            "records": self.records,
            "summary": _as_json(self.spreads()),
            f"{self.baseline} / name": _as_json(self.ratios()),
        }

    def markdown(self) -> str:
        """A table of the figures and, where the baseline took part, one of the ratios."""
        parts = [self.figures()]
        if ratios := self.ratios():
            parts.append(
                f"{self.baseline}'s figure divided by the other's, round by round "
                "(above 1: the other needs less):"
            )
            parts.append(self._table(ratios))
        return "\n\n".join(parts)

    def figures(self) -> str:
        """The first of the two tables."""
        return self._table(self.spreads())

    def _names(self) -> list[str]:
        return list(dict.fromkeys(record["name"] for record in self.records))

    def _of(self, name: str) -> dict[int, Record]:
        return {record["round"]: record for record in self.records if record["name"] == name}

    def _table(self, spreads: dict[str, dict[str, Spread | None]]) -> str:
        return table(["", *self.measures], [[name, *row.values()] for name, row in spreads.items()])


def _ratio(base: float | None, own: float | None) -> float | None:
    return base / own if base and own else None


def _as_json(spreads: dict[str, dict[str, Spread | None]]) -> dict[str, Any]:
    return {
        name: {column: spread and asdict(spread) for column, spread in row.items()}
        for name, row in spreads.items()
    }
