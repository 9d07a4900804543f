"""A UNet's deep features, kept for the evaluations after the one that they were computed in.

DeepCache [Ma et al. 2023, arXiv 2312.00858]: `graphs.cut` cuts the graph, here is when
it is evaluated whole, and what the part above the cut is given in between. An evaluation is a call
of the UNet for one entry of the scheduler's timesteps: a solver that looks at a timestep twice
(heun, plms at its second) has two there.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..engines.protocol import Feeds, Graph
from ..errors import SettingError
from ..graphs.cut import DEEP_FEATURES, Cut
from ..model.bundle import Bundle
from ..speed.profiles import Profile

Array: TypeAlias = NDArray[np.float32]

ORDERS = (0, 1)
GUIDANCES = ("anew", "kept")
# DeepCache's for Stable Diffusion: evaluation 15 of 50, and the power.
_CENTRE, _POWER = 0.3, 1.4


def uniform(total: int, interval: int) -> range:
    """Every interval-th evaluation, the first one among them."""
    return range(0, total, interval)


def uniform_last(total: int, interval: int) -> list[int]:
    """The last one as well: nothing comes after it to mend what it says of the picture."""
    return [*uniform(total - 1, interval), total - 1]


def quadratic(total: int, interval: int) -> list[int]:
    """As many evaluations as `uniform` has, closer to each other around 0.3 of the way.

    Around c they lie at c + sign(u) |u|^p, u evenly spaced: DeepCache's non-uniform 1:N strategy.
    """
    count, centre = len(uniform(total, interval)), _CENTRE * total
    first, last = -(centre ** (1 / _POWER)), (total - centre) ** (1 / _POWER)
    even = np.linspace(first, last, count + 1)[:-1]
    chosen = np.rint(centre + np.sign(even) * np.abs(even) ** _POWER).astype(int).tolist()
    for i in range(1, count):  # none twice,
        chosen[i] = max(chosen[i], chosen[i - 1] + 1)
    return [min(at, total - count + i) for i, at in enumerate(chosen)]  # and none past the end


SCHEDULES: Mapping[str, Callable[[int, int], Iterable[int]]] = {
    "uniform": uniform,
    "uniform_last": uniform_last,
    "quadratic": quadratic,
}


@dataclass(frozen=True)
class Caching:
    """How a call keeps deep features.

    interval: of so many evaluations one is of the whole UNet.
    branch: where the UNet is cut: see `graphs.cut.Cut`.
    schedule: which evaluations those are, a key of SCHEDULES.
    order: what the others are given: 0 the features of the last whole evaluation, 1 the line
        through the last two, over timesteps [as TaylorSeer of order 1, Liu et al. 2025].
    guidance: "anew" is found in each evaluation, "kept" in the whole ones alone: with the depths
        frozen, what it adds to the prediction changes little, and half of the work remains [Lv et
        al. 2024, FasterCache, arXiv 2410.19355, keep what is between the halves].
    """

    interval: int
    branch: int = 0
    schedule: str = "uniform"
    order: int = 0
    guidance: str = "anew"

    @classmethod
    def checked(cls, bundle: Bundle, profile: Profile) -> "Caching | None":
        """None at interval 1, which keeps nothing; SettingError names what is out of range."""
        interval, branch = profile.cache_interval, profile.cache_branch
        schedule, order = profile.cache_schedule, profile.cache_order
        if not isinstance(interval, int) or interval < 1:
            raise SettingError(f"cache_interval is {interval}; give 1 or more")
        most = None if bundle.skip_connections is None else bundle.skip_connections - 1
        if not isinstance(branch, int) or branch < 0 or (most is not None and branch > most):
            known = "0 or more" if most is None else f"0 to {most}, as {bundle.name} has them"
            raise SettingError(f"cache_branch is {branch}; give {known}")
        if schedule not in SCHEDULES:
            raise SettingError(
                f"cache_schedule is {schedule!r}; choose from: {', '.join(SCHEDULES)}"
            )
        if order not in ORDERS:
            raise SettingError(f"cache_order is {order}; give 0 or 1")
        if (guidance := profile.cache_guidance) not in GUIDANCES:
            raise SettingError(
                f"cache_guidance is {guidance!r}; choose from: {', '.join(GUIDANCES)}"
            )
        return cls(interval, branch, schedule, order, guidance) if interval > 1 else None

    @property
    def whole(self) -> Cut:
        return Cut(self.branch, shallow=False)

    @property
    def shallow(self) -> Cut:
        return Cut(self.branch, shallow=True)

    def computes(self, evaluation: int, total: int) -> bool:
        """Whether the whole UNet is asked in this evaluation of so many."""
        return evaluation in SCHEDULES[self.schedule](total, self.interval)


@dataclass(frozen=True)
class _Kept:
    """Features of an evaluation: at which timestep, and for which prompt.

    before: those of the whole evaluation before; None where none are to be used.
    """

    features: Array
    t: float
    embedding: Array
    before: "_Kept | None" = None

    def at(self, t: float) -> Array:
        """On the line through both, where there are two."""
        if self.before is None or self.before.t == self.t:
            return self.features
        reach = np.float32((t - self.t) / (self.t - self.before.t))
        line: Array = self.features + reach * (self.features - self.before.features)
        return line


@dataclass
class FeatureCache:
    """The kept features of one image, apart for each of its tiles and halves of the guidance.

    shallow: the graph of the part above the cut; the whole one is handed over with each call.
    """

    caching: Caching
    shallow: Graph
    _kept: dict[Hashable, _Kept] = field(init=False, default_factory=dict)

    def predict(self, full: Graph, feeds: Feeds, place: tuple[int, int], of: Hashable) -> Array:
        """The UNet's prediction, from kept features where there are any for this evaluation.

        place: which evaluation it is, of how many. of: whose features, a tile's and half's.
        Features of another prompt are of no use: where a scheduled one changes, the whole UNet is
        asked.
        """
        t, embedding = float(feeds["timestep"]), feeds["encoder_hidden_states"]
        kept = self._for(of, embedding)
        if kept is None or self.caching.computes(*place):
            found = dict(full(feeds))
            features = found.pop(DEEP_FEATURES)
            before = replace(kept, before=None) if kept and self.caching.order else None
            self._kept[of] = _Kept(features, t, embedding, before)
        else:
            found = self.shallow({**feeds, DEEP_FEATURES: kept.at(t)})
        (prediction,) = found.values()
        return prediction

    def keeps_guidance(self, place: tuple[int, int], embeddings: Array) -> bool:
        """Whether the guidance of the last whole evaluation stands in this one, too.

        embeddings: of what guidance compares, a batch; kept apart, by their numbers in it.
        """
        if self.caching.guidance != "kept" or self.caching.computes(*place):
            return False
        return all(self._for((0, row), embeddings[row : row + 1]) for row in range(len(embeddings)))

    def _for(self, of: Hashable, embedding: Array) -> _Kept | None:
        """What is kept, if it was for this prompt."""
        kept = self._kept.get(of)
        return kept if kept and np.array_equal(kept.embedding, embedding) else None
