"""How long pictures take here: by what those of their kind took before."""

import threading

from pleinair.runtime import Plan

_SHALLOW = 0.25
"""What a shallow evaluation costs, of a whole one."""
_NEWEST = 0.3
"""How much the newest measurement counts."""


def work(plan: Plan) -> float:
    """A plan's work for one picture: evaluations times pixels, in millions."""
    counts, branches = plan.evaluations, len(plan.guidance.batches[0])
    whole = counts.get("full", 0) + _SHALLOW * counts.get("shallow", 0)
    pixels = plan.settings.width * plan.settings.height / 1e6
    later = work(plan.then) if plan.then else 0.0
    return whole * branches * pixels + later


class Speed:
    """Seconds per work of each kind of picture: a model with its profile."""

    def __init__(self) -> None:
        self._rates: dict[tuple[str, str | None], float] = {}
        self._changing = threading.Lock()

    def measured(self, kind: tuple[str, str | None], work: float, seconds: float) -> None:
        if work <= 0:
            return
        with self._changing:
            before = self._rates.get(kind, seconds / work)
            self._rates[kind] = before + _NEWEST * (seconds / work - before)

    def seconds(self, kind: tuple[str, str | None], work: float) -> float | None:
        """What it will take; None where nothing of the kind was painted yet."""
        rate = self._rates.get(kind)
        return None if rate is None else rate * work
