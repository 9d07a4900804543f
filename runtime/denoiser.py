"""The UNet as the denoising loop asks it: in tiles, with ControlNets, under guidance."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .control import Steering
from .engines.protocol import Graph
from .guidance import Guidance
from .start import Start
from .tiles import Tiles

Array: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Denoiser:
    """Called with a sample it gives the model's prediction for it.

    nets: the graphs of the ControlNets in `steering`.
    guidance: None asks the UNet once a step.
    tell: hears of ("denoise", tiles done, tiles of all steps).
    """

    unet: Graph
    nets: Sequence[Graph]
    steering: Steering | None
    tiles: Tiles
    guidance: Guidance | None
    tell: Callable[[str, int, int], object]

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
        embedding, (step, steps) = told["encoder_hidden_states"], place
        shown = self.tiles.cut(start.shown(sample, len(embedding)))
        parts = []
        for i, (seen, own) in enumerate(zip(shown, self.tiles.cut(sample), strict=True)):
            self.tell("denoise", step * len(shown) + i, steps * len(shown))
            added: dict[str, Array] = {}
            if self.steering:
                added = self.steering.residuals(self.nets, place, i, own, t, embedding)
            feeds = {"sample": seen, "timestep": np.asarray(t), **told, **added}
            (prediction,) = self.unet(feeds).values()
            parts.append(self.guidance.steer(prediction) if self.guidance else prediction)
        return self.tiles.mix(parts)
