"""What a call hands back: pictures, their seeds, and where the time went."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .model.safety import Verdict


@dataclass
class Timings:
    """Seconds spent: compiling graphs, encoding prompts and pictures, each denoising step,
    decoding and checking, in all.
    """

    load: float = 0.0
    encode: float = 0.0
    steps: list[float] = field(default_factory=list)
    decode: float = 0.0
    total: float = 0.0

    @contextlib.contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        setattr(self, stage, getattr(self, stage) + time.perf_counter() - begun)


@dataclass
class PipelineOutput:
    """What a call returns.

    images: PIL pictures; or float32 arrays (height, width, 3) in [0, 1]; or latents (1, c, h, w);
        None in the place of one that the safety checker withheld.
    seeds: the seed of each image; painted alone from it, the image comes out the same.
    variation_seeds: the variation seed of each image; empty without variation.
    stopped: a callback ended the run; images holds those finished before.
    verdicts: what the safety checker said of each image; empty where none was asked.
    """

    images: list[Any] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    timings: Timings = field(default_factory=Timings)
    stopped: bool = False
    variation_seeds: list[int] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def nsfw_content_detected(self) -> list[bool] | None:
        """Whether each image was found unsafe, as in diffusers; None where no checker was asked."""
        return [verdict.nsfw for verdict in self.verdicts] or None
