"""What profiles gain and cost, picture by picture."""

import statistics
from dataclasses import dataclass, field
from typing import Any

from ..images.similarity import psnr
from ..speed.profiles import DEFAULT
from ..speed.spread import Spread


@dataclass
class Cost:
    """What profiles gain in time and cost in likeness: the same pictures in each, first in exact.

    seconds, pictures: profile -> of each picture.
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    pictures: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, profile: str, seconds: float, picture: Any) -> None:
        self.seconds.setdefault(profile, []).append(seconds)
        self.pictures.setdefault(profile, []).append(picture)

    def ratio(self, profile: str) -> Spread | None:
        """The exact profile's seconds over this one's, picture by picture."""
        pairs = zip(self.seconds["exact"], self.seconds[profile], strict=True)
        return Spread.of(exact / other for exact, other in pairs)

    def psnr(self, profile: str) -> Spread | None:
        """Against the exact profile's pictures, in dB; infinite where all are the same."""
        pairs = zip(self.pictures[profile], self.pictures["exact"], strict=True)
        return Spread.of(psnr(*pair) for pair in pairs)

    def recommended(self, least: float) -> str:
        """The fastest whose median PSNR is `least` or more and that is faster beyond the spread."""
        if "exact" not in self.seconds:
            return DEFAULT
        exact = min(self.seconds["exact"])
        fit = [
            name
            for name, taken in self.seconds.items()
            if max(taken) < exact and (found := self.psnr(name)) and found.median >= least
        ]
        return min(fit, key=lambda name: statistics.median(self.seconds[name]), default=DEFAULT)
