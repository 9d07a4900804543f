"""The steps of a pass: which of the scheduler's it takes."""

import math

from ..denoise.span import Span
from ..errors import Message, SettingError
from ..families.settings import Settings
from ..schedulers import Scheduler
from .draft import Draft


def span_of(draft: Draft) -> Span:
    """The share of the steps that the pass takes, as denoising_start and denoising_end say."""
    sampling = draft.request.sampling
    return Span.of(
        sampling.denoising_start,
        sampling.denoising_end,
        latents=draft.request.noise.latents is not None,
        image=draft.pictured,
    )


def first_step(scheduler: Scheduler, settings: Settings) -> int:
    """The first step that a picture goes through, by the strength; SettingError if none is left."""
    steps, strength = settings.steps, settings.strength
    first = scheduler.first_step(steps, strength)
    if first >= steps * scheduler.order:
        raise SettingError(
            Message(
                "{strength} is {0:g}: of {1} steps that leaves none; give at least {2:g}, or more "
                "steps",
                strength,
                steps,
                math.ceil(100 / steps) / 100,
            )
        )
    return first
