"""What a denoiser computed, kept for the evaluations after the one that it was computed in.

A UNet's deep features, as DeepCache has it [Ma et al. 2023, arXiv 2312.00858]: `graphs.cut` cuts
the graph, here is when it is evaluated in full, and what the part above the cut is given in
between. Or predictions, so that nothing is computed in between. An evaluation is a call of the
denoiser for one entry of the scheduler's timesteps: a solver that looks at a timestep twice (heun,
plms at its second) has two there.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..engines.protocol import Feeds, Graph
from ..errors import Message, SettingError
from ..graphs.cut import DEEP_FEATURES, Cut
from ..options.groups import Reuse

Array: TypeAlias = NDArray[np.float32]
Feeding: TypeAlias = Callable[[], Feeds]
Rows: TypeAlias = list[int] | slice
"""Places in a batch of branches."""

_GROWTH = 1.4
"""A power: 1 spaces full evaluations evenly. Measured: docs/decisions/0039."""


class Evaluation(NamedTuple):
    """Which call of the denoiser it is, of how many: number counts from 0."""

    number: int
    total: int


class Wanted(NamedTuple):
    """What a prediction is wanted of.

    of: whose features are kept, a tile's and batch's. key: of what the denoiser is told: features
    of another prompt are of no use, and where a scheduled one changes the full UNet is asked.
    rows: those of that batch that are asked now; of the full graph it is all of them.
    """

    of: Hashable
    key: Hashable
    rows: Rows = slice(None)


def uniform(total: int, interval: int) -> range:
    """Every interval-th evaluation, the first one among them."""
    return range(0, total, interval)


def growing(total: int, interval: int) -> list[int]:
    """As many as every interval-th and the last, which is one of them; they lie closer at first.

    What a picture shows is settled early. Nothing comes after the last evaluation to mend it.
    """
    number = len({*range(0, total - 1, interval), total - 1})
    found = [0]
    for i in range(1, number):
        share = (i / (number - 1)) ** _GROWTH
        found.append(max(found[-1] + 1, round((total - 1) * share)))
    return found


SCHEDULES: Mapping[str, Callable[[int, int], Iterable[int]]] = {
    "uniform": uniform,
    "growing": growing,
}


@dataclass(frozen=True)
class Caching:
    """What is kept of a picture's full evaluations, and which those are.

    interval: of so many evaluations one is of the full denoiser; 1 keeps nothing.
    branch: where the UNet is cut: see `graphs.cut.Cut`.
    schedule: which evaluations those are, a key of SCHEDULES.
    keeps_guidance: whether guidance is found in those alone: see `guidance.Guidance.kept`.
    keeps_prediction: whether predictions are kept, and not a UNet's deep features.
    """

    interval: int
    branch: int = 0
    schedule: str = "uniform"
    keeps_guidance: bool = False
    keeps_prediction: bool = False

    @classmethod
    def of(cls, reuse: Reuse, cuts: int | None, model: str) -> "Caching | None":
        """None at interval 1; SettingError names what is out of range.

        reuse: all of it given, of the choices that there are. cuts: how many places the model's
        UNet can be cut at, None where that is not known, 0 for what is no UNet. model: its name.
        """
        interval, branch, schedule = reuse.cache_interval, reuse.cache_branch, reuse.cache_schedule
        if not isinstance(interval, int) or interval < 1:
            raise SettingError(Message("{cache_interval} is {0}; give 1 or more", interval))
        keeps_prediction = reuse.cache_level == "prediction"
        if cuts == 0 and interval > 1 and not keeps_prediction:
            raise SettingError(
                Message(
                    "{cache_interval} is {0}; {1} has no deep features to keep: leave it out, or "
                    "give {cache_level} prediction",
                    interval,
                    model,
                )
            )
        most = None if cuts is None else max(cuts - 1, 0)
        if not isinstance(branch, int) or branch < 0 or (most is not None and branch > most):
            known = "0 or more" if most is None else f"0 to {most}, as {model} has them"
            raise SettingError(Message("{cache_branch} is {0}; give {1}", branch, known))
        if interval == 1:
            return None
        assert schedule is not None  # all of it is given
        return cls(
            interval,
            branch,
            schedule,
            keeps_guidance=reuse.cache_guidance == "kept" and not keeps_prediction,
            keeps_prediction=keeps_prediction,
        )

    @property
    def full(self) -> Cut:
        return Cut(self.branch, shallow=False)

    @property
    def shallow(self) -> Cut:
        return Cut(self.branch, shallow=True)

    def computes(self, evaluation: Evaluation) -> bool:
        """Whether the full denoiser is asked in this evaluation."""
        return evaluation.number in SCHEDULES[self.schedule](evaluation.total, self.interval)


@dataclass
class Uncached:
    """A denoiser's graph, asked in full in every evaluation."""

    graph: Graph

    def predict(self, feeds: Feeding, evaluation: Evaluation, wanted: Wanted) -> Array:
        """As `FeatureCache.predict`; nothing is kept."""
        (prediction,) = self.graph(feeds()).values()
        return prediction

    def holds(self, evaluation: Evaluation, wanted: Wanted) -> bool:
        return False


@dataclass(frozen=True)
class _Kept:
    """The features or the prediction of an evaluation, and what it was told."""

    value: Array
    key: Hashable


@dataclass
class PredictionCache:
    """The kept predictions of one image, apart for each of its tiles and batches of branches."""

    caching: Caching
    graph: Graph
    _kept: dict[Hashable, _Kept] = field(init=False, default_factory=dict)

    def predict(self, feeds: Feeding, evaluation: Evaluation, wanted: Wanted) -> Array:
        """As `FeatureCache.predict`: the kept prediction where there is one for this evaluation."""
        if not self.holds(evaluation, wanted):
            (prediction,) = self.graph(feeds()).values()
            self._kept[wanted.of] = _Kept(prediction, wanted.key)
        return self._kept[wanted.of].value

    def holds(self, evaluation: Evaluation, wanted: Wanted) -> bool:
        """Whether a kept prediction stands in this evaluation."""
        return _stands(self._kept.get(wanted.of), wanted.key, self.caching, evaluation)


@dataclass
class FeatureCache:
    """The kept features of one image, apart for each of its tiles and batches of branches.

    full, shallow: the graphs on either side of the cut: the full one hands its features out.
    """

    caching: Caching
    full: Graph
    shallow: Graph
    _kept: dict[Hashable, _Kept] = field(init=False, default_factory=dict)

    def predict(self, feeds: Feeding, evaluation: Evaluation, wanted: Wanted) -> Array:
        """The denoiser's prediction, from kept features where there are any for this evaluation.

        feeds: makes the graph's inputs, and is called where a graph is asked.
        """
        if self.holds(evaluation, wanted):
            features = self._kept[wanted.of].value[wanted.rows]
            found = self.shallow({**feeds(), DEEP_FEATURES: features})
        else:
            found = dict(self.full(feeds()))
            self._kept[wanted.of] = _Kept(found.pop(DEEP_FEATURES), wanted.key)
        (prediction,) = found.values()
        return prediction

    def holds(self, evaluation: Evaluation, wanted: Wanted) -> bool:
        """Whether kept features stand in this evaluation."""
        return _stands(self._kept.get(wanted.of), wanted.key, self.caching, evaluation)


def _stands(kept: _Kept | None, key: Hashable, caching: Caching, evaluation: Evaluation) -> bool:
    """Whether what is kept, if anything, was told the same, and nothing is to be computed."""
    return kept is not None and kept.key == key and not caching.computes(evaluation)
