"""The denoiser as the loop asks it: in tiles, with ControlNets, under guidance."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..engines.protocol import Feeds
from ..model.tiles import Tiles
from .conditioning import Conditioning
from .control import Steering
from .feature_cache import Evaluation, FeatureCache, PredictionCache, Uncached, Wanted
from .guidance import CONDITIONAL, Guidance
from .start import seen

Array: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Network:
    """What denoises, with or without what is kept, and what its inputs are called."""

    cache: FeatureCache | PredictionCache | Uncached
    sample: str
    timestep: str


@dataclass
class Denoiser:
    """Called with a sample it gives the model's prediction for it; of one image, step by step.

    beside: what the network sees beside the latents, (1, channels, rows, columns).
    tell: hears of ("denoise", tiles done, tiles of all evaluations).
    """

    network: Network
    guidance: Guidance
    tiles: Tiles
    beside: Array | None
    steering: Steering | None
    tell: Callable[[str, int, int], object]
    _added: dict[int, Array] = field(init=False, default_factory=dict)
    """Tile -> what guidance added to the conditional branch when it was last found."""

    def __call__(
        self, sample: Array, t: Any, evaluation: Evaluation, conditioning: Conditioning
    ) -> Array:
        """sample: the latents as the scheduler scales them for timestep t; as the result of shape
        (1, channels, rows, columns).
        """
        parts = self.tiles.cut(sample)
        beside = [None] * len(parts) if self.beside is None else self.tiles.cut(self.beside)
        predictions = []
        for tile, part in enumerate(parts):
            done = evaluation.number * len(parts) + tile
            self.tell("denoise", done, evaluation.total * len(parts))
            asked = _Asked(self, tile, part, beside[tile], t, evaluation, conditioning)
            predictions.append(self._guided(asked))
        return self.tiles.mix(predictions)

    def _guided(self, asked: "_Asked") -> Array:
        """The prediction for a tile, with what guidance adds to it, found or kept."""
        if not self.guidance.acts(*asked.evaluation):
            return asked.predict((CONDITIONAL,))
        if self.guidance.kept and asked.all_kept():
            return asked.predict((CONDITIONAL,)) + self._added[asked.tile]
        found: dict[str, Array] = {}
        for branches in self.guidance.batches:
            rows = asked.predict(branches)
            found |= {branch: rows[i : i + 1] for i, branch in enumerate(branches)}
        combined = self.guidance.combine(found)
        self._added[asked.tile] = combined - found[CONDITIONAL]
        return combined


@dataclass(frozen=True)
class _Asked:
    """One tile in one evaluation."""

    denoiser: Denoiser
    tile: int
    latents: Array
    beside: Array | None
    t: Any
    evaluation: Evaluation
    conditioning: Conditioning

    def predict(self, branches: Sequence[str]) -> Array:
        """The network's prediction for a batch of branches, (branches, channels, rows, columns)."""
        feeds = functools.partial(self._feeds, branches)
        cache = self.denoiser.network.cache
        return cache.predict(feeds, self.evaluation, self._wanted(branches))

    def _feeds(self, branches: Sequence[str]) -> Feeds:
        """The network's inputs for a batch of branches."""
        guidance, network = self.denoiser.guidance, self.denoiser.network
        rows = branches[:1] if guidance.shares_sample else branches
        feeds = self.conditioning.batch(branches)
        if self.denoiser.steering:
            feeds |= self.denoiser.steering.residuals(
                self.conditioning,
                branches,
                evaluation=self.evaluation,
                tile=self.tile,
                sample=self.latents,
                t=self.t,
            )
        feeds[network.sample] = seen(self.latents, self.beside, rows, guidance.blind)
        feeds[network.timestep] = np.asarray(self.t)
        return feeds

    def all_kept(self) -> bool:
        """Whether the deep features of every branch stand in this evaluation."""
        cache = self.denoiser.network.cache
        batches = self.denoiser.guidance.batches
        return all(cache.holds(self.evaluation, self._wanted(batch)) for batch in batches)

    def _wanted(self, branches: Sequence[str]) -> Wanted:
        """Of the features that are kept for the batch these branches are of."""
        batch = self.denoiser.guidance.batch_of(branches)
        rows = [batch.index(branch) for branch in branches]
        return Wanted((self.tile, tuple(batch)), self.conditioning.key(batch), rows)
