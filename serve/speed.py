"""How long pictures take here: by what those of their kind took before."""

import threading

from pleinair.runtime import Plan

from .job import Job

_SHALLOW = 0.25
"""What a shallow evaluation costs, of a whole one."""
_NEWEST = 0.3
"""How much the newest measurement counts."""

Kind = tuple[str | None, str | None]


def work(plan: Plan) -> float:
    """A plan's work for one picture: evaluations times pixels, in millions."""
    counts, guidance = plan.evaluations, plan.guidance
    cost = float(counts.get("full", 0) * len(guidance.batches[0]))
    cost += _SHALLOW * counts.get("shallow", 0) * len(guidance.between)
    rows, columns = plan.tiles.tile
    later = work(plan.then) if plan.then else 0.0
    return float(cost * rows * columns / 1e6 + later)


class Speed:
    """Seconds per work of each kind of picture: a model with its profile."""

    def __init__(self) -> None:
        self._rates: dict[Kind, float] = {}
        self._changing = threading.Lock()

    def measured(self, job: Job, seconds: float) -> None:
        """One of a job's pictures took so long."""
        if not job.work or seconds <= 0:
            return
        with self._changing:
            kind, rate = _kind(job), seconds / job.work
            before = self._rates.get(kind, rate)
            self._rates[kind] = before + _NEWEST * (rate - before)

    def seconds(self, job: Job) -> float | None:
        """What a picture of a job will take; None where nothing of the kind was painted yet."""
        rate = self._rates.get(_kind(job))
        return None if rate is None or job.work is None else rate * job.work


def _kind(job: Job) -> Kind:
    return job.asked.model, job.asked.profile
