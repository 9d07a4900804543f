"""How near each graph comes to the machine's peak: its arithmetic over its time over the peak's.

The roof of a graph is that of its own mixture: floating point operations at the measured peak of
those, 8-bit ones at the measured peak of those. Memory is no part of it: at 512x512 a Stable
Diffusion denoiser does over a hundred operations for each byte of its weights.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pleinair.runtime.speed.spread import Spread

from .markdown import table
from .rounds import Record

_HEADER = ("configuration", "graph", "evaluations", "GFLOP", "in int8")
_HEADER += ("s an evaluation", "GFLOP/s", "share of peak")


@dataclass(frozen=True)
class Row:
    """One graph in one configuration; spreads are over the rounds, each of its own median.

    evaluations: in a round's timed pictures. flops, int8: a graph's operations, and how many of
    them are 8-bit; None where they could not be counted. share: of the peak measured in the same
    round; None where that is not known.
    """

    name: str
    part: str
    evaluations: int
    flops: int | None
    int8: int | None
    seconds: Spread
    rate: Spread | None
    share: Spread | None

    @property
    def work(self) -> int:
        """Operations of all its evaluations."""
        return self.evaluations * (self.flops or 0)

    def cells(self) -> list[Any]:
        counted = self.flops is not None and self.int8 is not None
        return [
            *(self.name, self.part, self.evaluations),
            f"{self.flops / 1e9:,.3g}" if self.flops is not None else None,
            f"{self.int8 / self.flops:.0%}" if counted and self.flops else None,
            *(self.seconds, self.rate, self.share and _per_cent(self.share)),
        ]


Peaks = Mapping[int, tuple[float | None, float | None]]
"""Round -> operations a second: in floating point, and in int8."""


def rows(name: str, records: Sequence[Record], tally: Mapping[str, Any], peaks: Peaks) -> list[Row]:
    """Of one configuration: a row for each graph that was evaluated.

    records: `painting.paint`'s, one a round. tally: what `tally.tally` found, or {}.
    """
    counted = {(one["part"], one["key"]): one["flops"] for one in tally.get("graphs", ())}
    graphs: dict[tuple[str, str], dict[int, list[float]]] = {}
    for record in records:
        for graph in record["graphs"]:
            if graph["seconds"]:
                rounds = graphs.setdefault((graph["part"], graph["key"]), {})
                rounds.setdefault(record["round"], []).extend(graph["seconds"])
    labels = _labels(list(graphs))
    return [
        _row(name, labels[key], rounds, counted.get(key), peaks) for key, rounds in graphs.items()
    ]


def _row(
    name: str,
    part: str,
    rounds: Mapping[int, Sequence[float]],
    flops: Mapping[str, int] | None,
    peaks: Peaks,
) -> Row:
    medians = {number: statistics.median(seconds) for number, seconds in rounds.items()}
    evaluations = round(statistics.mean(map(len, rounds.values())))
    spread = Spread.of(medians.values())
    assert spread is not None  # a graph without a time is not listed
    if flops is None:
        return Row(name, part, evaluations, None, None, spread, None, None)
    rate = Spread.of(flops["total"] / seconds / 1e9 for seconds in medians.values())
    shares = (_share(flops, s, *peaks.get(n, (None, None))) for n, s in medians.items())
    share = Spread.of(shares)
    return Row(name, part, evaluations, flops["total"], flops["int8"], spread, rate, share)


def _share(
    flops: Mapping[str, int], seconds: float, floating: float | None, int8: float | None
) -> float | None:
    """The time that the peaks would take over the time it took."""
    needed = 0.0
    for amount, peak in ((flops["total"] - flops["int8"], floating), (flops["int8"], int8)):
        if amount and not peak:
            return None
        needed += amount / peak if peak else 0.0
    return needed / seconds


def _labels(graphs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The part; where several graphs are of one part, numbered in order of compilation."""
    parts = [part for part, _ in graphs]
    labels, seen = {}, dict.fromkeys(parts, 0)
    for part, key in graphs:
        seen[part] += 1
        labels[part, key] = f"{part} ({seen[part]})" if parts.count(part) > 1 else part
    return labels


def heavy(found: Sequence[Row]) -> list[Row]:
    """Those with a twentieth of their configuration's arithmetic, or more."""
    works: dict[str, int] = {}
    for row in found:
        works[row.name] = works.get(row.name, 0) + row.work
    return [row for row in found if 20 * row.work >= works[row.name] > 0]


def markdown(found: Sequence[Row]) -> str:
    return table(_HEADER, (row.cells() for row in found))


def _per_cent(share: Spread) -> str:
    low, high = (f"{100 * end:.3g}" for end in (share.low, share.high))
    return f"{100 * share.median:.3g} % ({low} to {high})"
