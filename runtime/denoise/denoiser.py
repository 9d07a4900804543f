"""The UNet as the denoising loop asks it: in tiles, with ControlNets, under guidance."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..engines.protocol import Graph
from ..model.tiles import Tiles
from .control import Steering
from .feature_cache import FeatureCache
from .guidance import Guidance
from .guidance_interval import GuidanceInterval
from .start import Start

Array: TypeAlias = NDArray[np.float32]


@dataclass
class Denoiser:
    """Called with a sample it gives the model's prediction for it; of one image, step by step.

    nets: the graphs of the ControlNets in `steering`.
    guidance: None asks the UNet once a step.
    tell: hears of ("denoise", tiles done, tiles of all steps).
    apart: the graphs are made for a batch of one, and asked once for each thing that guidance
        compares; else for all of it at once.
    interval: where guidance acts, if it is asked apart. None is in all steps.
    cache: deep features kept from step to step, which the UNet then hands out.
    """

    unet: Graph
    nets: Sequence[Graph]
    steering: Steering | None
    tiles: Tiles
    guidance: Guidance | None
    tell: Callable[[str, int, int], object]
    apart: bool = False
    interval: GuidanceInterval | None = None
    cache: FeatureCache | None = None
    converged: bool = False
    _added: dict[int, Array] = field(init=False, default_factory=dict)

    def __call__(
        self,
        sample: Array,
        start: Start,
        t: Any,
        told: Mapping[str, Array],
        place: tuple[int, int],
    ) -> Array:
        """Both (1, channels, rows, columns).

        sample: the latents as the scheduler scales them for timestep t.
        start: what the image began with, and what the UNet sees beside the latents.
        told: the UNet's other inputs, which say what to paint.
        place: which step it is, of how many.
        """
        embeddings, (step, steps) = told["encoder_hidden_states"], place
        guides, batch = self._guides(place), len(embeddings)
        asked = self._asked(batch, guides and not self._keeps_guidance(place, embeddings))
        rows = self.guidance.shown if self.guidance else 1
        shown = self.tiles.cut(start.shown(sample, rows))
        parts, converged = [], True
        for i, (seen, own) in enumerate(zip(shown, self.tiles.cut(sample), strict=True)):
            self.tell("denoise", step * len(shown) + i, steps * len(shown))
            inputs = {"sample": seen, **told}
            prediction = np.concatenate(
                [self._predicted(inputs, rows, own, t, place, i) for rows in asked]
            )
            parts.append(self._steered(prediction, i) if guides else prediction)
            converged &= self._agree(prediction)
        # Compared over all tiles, so that they are one picture, and from the next step on.
        self.converged |= converged
        return self.tiles.mix(parts)

    def _guides(self, place: tuple[int, int]) -> bool:
        """Whether guidance acts in this step."""
        if self.guidance is None or self.interval is None:
            return self.guidance is not None
        return self.interval.holds(*place) and not self.converged

    def _keeps_guidance(self, place: tuple[int, int], embeddings: Array) -> bool:
        """Whether what it adds is known from an earlier step."""
        return self.cache is not None and self.cache.keeps_guidance(place, embeddings)

    def _asked(self, batch: int, compares: bool) -> list[slice]:
        """Which of the batch the UNet is asked for, and how much of it at once.

        compares: whether guidance is to be found in this step.
        """
        if self.guidance is None or not self.apart:
            return [slice(batch)]
        if compares:
            return [slice(row, row + 1) for row in range(batch)]
        return [slice(self.guidance.prompted, self.guidance.prompted + 1)]

    def _predicted(
        self,
        inputs: Mapping[str, Array],
        rows: slice,
        own: Array,
        t: Any,
        place: tuple[int, int],
        tile: int,
    ) -> Array:
        """What the UNet says of these rows of a tile's batch.

        own: the tile of the sample as ControlNets see it, once, without what is beside it.
        """
        feeds = {name: value if len(value) == 1 else value[rows] for name, value in inputs.items()}
        feeds["timestep"] = np.asarray(t)
        if self.steering:
            last = self.guidance is None or rows.start in (None, self.guidance.prompted)
            embedding = feeds["encoder_hidden_states"]
            feeds |= self.steering.residuals(self.nets, place, tile, own, t, embedding, last)
        if self.cache:
            return self.cache.predict(self.unet, feeds, place, (tile, rows.start))
        (prediction,) = self.unet(feeds).values()
        return prediction

    def _steered(self, prediction: Array, tile: int) -> Array:
        """With what guidance adds, found in it or, where the prompted one is alone, kept."""
        assert self.guidance is not None
        prompted = self.guidance.prompted
        if len(prediction) == 1:
            return prediction + self._added[tile]
        steered = self.guidance.steer(prediction)
        self._added[tile] = steered - prediction[prompted : prompted + 1]
        return steered

    def _agree(self, prediction: Array) -> bool:
        """Whether there is more than one prediction, and they say the same."""
        if self.guidance is None or self.interval is None or len(prediction) == 1:
            return False
        return self.interval.converged(prediction, self.guidance.prompted)
