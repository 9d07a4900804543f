"""What an export would make of a checkpoint, asked for nothing but what a test asks for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from pleinair.export.checkpoint import open_checkpoint
from pleinair.export.plan import Plan
from pleinair.export.request import Request
from pleinair.export.solver import Solver


def planned(checkpoint: Path, *loras: Path, **asked: Any) -> Plan:
    """asked: fields of the request that are other than the command's defaults."""
    request = Request(
        source=checkpoint,
        output=checkpoint.parent / "model",
        formats=["openvino"],
        precision="fp16",
        revision=None,
        overwrite=False,
        loras=loras,
        vae=None,
        text_encoder=None,
        unet=None,
        ema=False,
        prediction_type=None,
        config=None,
        safety_checker=True,
        tiny_vae=None,
        solver=Solver(),
        few_steps=None,
    )
    return Plan(open_checkpoint(checkpoint), replace(request, **asked))
