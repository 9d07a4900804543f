"""What is painted and how, as far as kinds of models make something of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..denoise.guidance import Guidance
from ..images.original import Canvas


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Checked, with the model's defaults where nothing was said.

    timesteps: where they are given; None are those that the scheduler makes of the steps.
    width, height: in pixels, of the picture that is painted.
    strength: the share of the steps that a picture to start from goes through.
    drawn_from: the last share of its timesteps that the scheduler draws them all from.
    canvas: that picture as the model takes it; None paints from text alone.
    options: the family's own.
    """

    width: int
    height: int
    steps: int
    scheduler: str | None
    eta: float
    guidance_scale: float
    guidance: Guidance
    strength: float
    timesteps: Sequence[int] | None = None
    drawn_from: float = 1.0
    canvas: Canvas | None
    options: Any
