"""What a call hands back: pictures, their seeds, and where the time went."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .denoise.variation import Variation
from .model.safety import Verdict


@dataclass
class Timings:
    """Seconds spent.

    load: on compiling graphs. encode: on prompts, and a picture to start from.
    steps: on each step of denoising, of all images in turn.
    decode: on making pixels, and the safety checker. total: in all.
    """

    load: float = 0.0
    encode: float = 0.0
    steps: list[float] = field(default_factory=list)
    decode: float = 0.0
    total: float = 0.0
    _inner: list[float] = field(default_factory=list, repr=False, compare=False)

    @contextlib.contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Count a block's time for a stage; what a block inside it counts is that one's alone.

        "total" counts all that is inside it.
        """
        self._inner.append(0.0)
        begun = time.perf_counter()
        try:
            yield
        finally:
            spent, inner = time.perf_counter() - begun, self._inner.pop()
            counted = spent if stage == "total" else spent - inner
            setattr(self, stage, getattr(self, stage) + counted)
            if self._inner:
                self._inner[-1] += spent

    def add(self, later: "Timings") -> None:
        """Count those of a later pass as well."""
        self.load += later.load
        self.encode += later.encode
        self.steps += later.steps
        self.decode += later.decode
        self.total += later.total


@dataclass
class PipelineOutput:
    """What a call returns.

    images: PIL pictures; or float32 arrays (height, width, 3) in [0, 1]; or latents (1, c, h, w);
        None in the place of one that the safety checker withheld.
    seeds: the seed of each image; painted alone from it, the image comes out the same.
    variation_seeds: the variation seed of each image; empty without variation.
    timings: seconds spent.
    stopped: whether a callback ended the run by returning False; images, seeds and verdicts are
        then those of the images finished before, which may be none.
    verdicts: what the safety checker said of each image; empty where none was asked.
    """

    images: list[Any] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    timings: Timings = field(default_factory=Timings)
    stopped: bool = False
    variation_seeds: list[int] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)

    def add(self, image: Any, seed: int, variation: Variation | None) -> None:
        """One image more."""
        self.images.append(image)
        self.seeds.append(seed)
        if variation:
            self.variation_seeds.append(variation.seed)

    def replace(self, index: int, later: "PipelineOutput") -> None:
        """Put what a later pass has made of an image in its place, and count its time."""
        self.stopped = later.stopped
        if later.images:
            self.images[index] = later.images[0]
        if later.verdicts:
            self.verdicts[index] = later.verdicts[0]
        self.timings.add(later.timings)

    @property
    def nsfw_content_detected(self) -> list[bool] | None:
        """Whether each image was found unsafe, as in diffusers; None where no checker was asked."""
        return [verdict.nsfw for verdict in self.verdicts] or None
