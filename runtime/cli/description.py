"""What a picture's file says of how it was made."""

import argparse
from typing import Any

from ..pipeline import StableDiffusionPipeline
from ..plan import Plan
from ..record import made
from .arguments import BETAS, given
from .picture import Picture


def description(
    pipe: StableDiffusionPipeline, options: argparse.Namespace, picture: Picture, plan: Plan
) -> dict[str, Any]:
    """The settings of a picture that is painted, with those of the command line around the call."""
    around = {
        "noise_seed": picture.noise_seed,
        **given(options, BETAS),
        "watermark": options.watermark,
    }
    told = {name: value for name, value in around.items() if value is not None}
    return {**made.description(pipe, plan, 0, options.lora_dir), **picture.settings, **told}
