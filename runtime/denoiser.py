"""The UNet as the denoising loop asks it: in tiles, with ControlNets, under guidance."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .control import Steering
from .engines.protocol import Graph
from .feature_cache import FeatureCache
from .guidance import Guidance
from .guidance_interval import GuidanceInterval
from .start import Start
from .tiles import Tiles

Array: TypeAlias = NDArray[np.float32]


@dataclass
class Denoiser:
    """Called with a sample it gives the model's prediction for it; of one image, step by step.

    nets: the graphs of the ControlNets in `steering`.
    guidance: None asks the UNet once a step.
    tell: hears of ("denoise", tiles done, tiles of all steps).
    interval: where guidance acts; the graphs are then made for a batch of one, and asked once for
        each thing that is compared. None is in all steps, with one batch.
    cache: deep features kept from step to step, which the UNet then hands out.
    """

    unet: Graph
    nets: Sequence[Graph]
    steering: Steering | None
    tiles: Tiles
    guidance: Guidance | None
    tell: Callable[[str, int, int], object]
    interval: GuidanceInterval | None = None
    cache: FeatureCache | None = None
    converged: bool = False

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
        batch, (step, steps) = len(told["encoder_hidden_states"]), place
        asked = self._asked(batch, place)
        shown = self.tiles.cut(start.shown(sample, batch))
        parts, converged = [], True
        for i, (seen, own) in enumerate(zip(shown, self.tiles.cut(sample), strict=True)):
            self.tell("denoise", step * len(shown) + i, steps * len(shown))
            inputs = {"sample": seen, **told}
            prediction = np.concatenate(
                [self._predicted(inputs, rows, own, t, place, i) for rows in asked]
            )
            parts.append(self._steered(prediction))
            converged &= self._agree(prediction)
        # Compared over all tiles, so that they are one picture, and from the next step on.
        self.converged |= converged
        return self.tiles.mix(parts)

    def _asked(self, batch: int, place: tuple[int, int]) -> list[slice]:
        """Which of the batch the UNet is asked for, and how much of it at once."""
        if self.guidance is None or self.interval is None:
            return [slice(batch)]
        if self.interval.holds(*place) and not self.converged:
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
        feeds = {name: value[rows] for name, value in inputs.items()}
        feeds["timestep"] = np.asarray(t)
        if self.steering:
            last = self.guidance is None or rows.start in (None, self.guidance.prompted)
            embedding = feeds["encoder_hidden_states"]
            feeds |= self.steering.residuals(self.nets, place, tile, own, t, embedding, last)
        if self.cache:
            return self.cache.predict(self.unet, feeds, place, (tile, rows.start))
        (prediction,) = self.unet(feeds).values()
        return prediction

    def _steered(self, prediction: Array) -> Array:
        if self.guidance is None or len(prediction) == 1:
            return prediction
        return self.guidance.steer(prediction)

    def _agree(self, prediction: Array) -> bool:
        """Whether there is more than one prediction, and they say the same."""
        if self.guidance is None or self.interval is None or len(prediction) == 1:
            return False
        return self.interval.converged(prediction, self.guidance.prompted)
