"""The figures that pictures are judged by, in numpy: shares with their intervals, and distances."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Z95 = 1.959963984540054  # the normal distribution holds 95 % within +-Z95


@dataclass(frozen=True)
class Share:
    """How many of a number of trials came out right, in per cent with a 95 % interval as text."""

    right: int
    number: int

    @classmethod
    def of(cls, outcomes: Iterable[bool | None]) -> "Share":
        """None is no trial."""
        trials = [outcome for outcome in outcomes if outcome is not None]
        return cls(sum(trials), len(trials))

    @property
    def value(self) -> float:
        return self.right / self.number if self.number else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(self.right, self.number)

    def __str__(self) -> str:
        if not self.number:
            return "–"
        low, high = self.interval
        return f"{100 * self.value:.1f} ({100 * low:.1f} to {100 * high:.1f})"

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "interval95": self.interval}


def wilson_interval(right: int, number: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson 1927, without continuity correction)."""
    if not number:
        return 0.0, 1.0
    share, spread = right / number, Z95**2 / number
    reach = Z95 * math.sqrt(share * (1.0 - share) / number + spread / (4.0 * number))
    low, high = (share + spread / 2.0 + side * reach for side in (-1, 1))
    return max(0.0, low / (1.0 + spread)), min(1.0, high / (1.0 + spread))


@dataclass(frozen=True)
class Pairs:
    """Two ways tried on the same cases: how often both, either alone, or neither was right."""

    both: int
    first: int
    second: int
    neither: int

    @classmethod
    def of(cls, first: Sequence[bool | None], second: Sequence[bool | None]) -> "Pairs":
        """A case that either side has no outcome for says nothing."""
        cases = [(a, b) for a, b in zip(first, second, strict=True) if None not in (a, b)]
        outcomes = ((True, True), (True, False), (False, True), (False, False))
        return cls(*(cases.count(outcome) for outcome in outcomes))

    @property
    def number(self) -> int:
        return self.both + self.first + self.second + self.neither

    @property
    def difference(self) -> float:
        """The second's share less the first's."""
        return (self.second - self.first) / self.number if self.number else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of `difference`: method 10 of Newcombe 1998 (Stat. Med. 17, 2635)."""
        if not self.number:
            return -1.0, 1.0
        rights = (self.both + self.second, self.both + self.first)
        (p2, p1), n = (right / self.number for right in rights), self.number
        (low2, high2), (low1, high1) = (wilson_interval(right, n) for right in rights)
        margins = math.prod((*rights, n - rights[0], n - rights[1]))
        cross = self.both * self.neither - self.first * self.second
        if cross > 0:
            cross = max(cross - n / 2.0, 0.0)
        phi = cross / math.sqrt(margins) if margins else 0.0
        down = _side(p2 - low2, high1 - p1, phi)
        up = _side(high2 - p2, p1 - low1, phi)
        return self.difference - down, self.difference + up

    @property
    def p_value(self) -> float:
        """Exact two-sided McNemar test: are the cases where one alone is right a fair coin's?"""
        flips = self.first + self.second
        tail = sum(math.comb(flips, k) for k in range(min(self.first, self.second) + 1))
        return min(1.0, 2.0 * tail / 2**flips)

    def as_json(self) -> dict[str, Any]:
        facts = {"difference": self.difference, "interval95": self.interval}
        return {**asdict(self), **facts, "mcnemar_p": self.p_value}


def _side(one: float, other: float, phi: float) -> float:
    return math.sqrt(max(0.0, one**2 - 2.0 * phi * one * other + other**2))


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Squared 2-Wasserstein distance of normal fits to two sets of features (n, d).

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1^1/2 C2 C1^1/2)^1/2), Heusel et al. 2017, section 3. It is
    biased upwards for small n, so compare only distances at the same n.
    """
    mean1, mean2 = first.mean(0), second.mean(0)
    cov1, cov2 = (np.cov(features, rowvar=False) for features in (first, second))
    values, axes = np.linalg.eigh(cov1)
    root = axes * np.sqrt(values.clip(0.0)) @ axes.T
    # C1 C2 has the same eigenvalues, but only this one is symmetric.
    mixed = np.sqrt(np.linalg.eigvalsh(root @ cov2 @ root).clip(0.0)).sum()
    distance = np.sum((mean1 - mean2) ** 2) + np.trace(cov1) + np.trace(cov2) - 2.0 * mixed
    return max(0.0, float(distance))
