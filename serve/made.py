"""A line painted: its picture as a file's bytes, or why there is none."""

from collections.abc import Callable
from dataclasses import dataclass

from pleinair.runtime.errors import PleinairError
from pleinair.runtime.record.saving import encoded

from .lines import Line
from .models import Models


@dataclass(frozen=True)
class Made:
    """What became of a line.

    file: the name of its picture's. data: that file's bytes, empty where there is none.
    withheld: what the model's safety checker found. error: why it could not be painted.
    """

    file: str
    data: bytes = b""
    withheld: str = ""
    error: str = ""


def made(
    line: Line, models: Models, on_stage: Callable[[str, int, int], object] = lambda *_: None
) -> Made:
    """Paint a line. on_stage: as of a call."""
    try:
        plan = models.plan(line.asked, callback_on_stage=on_stage)
        output = plan.paint()
        record = models.described(line.asked, plan)
    except PleinairError as error:
        return Made(line.file, error=str(error))
    image = output.images[0]
    if image is None:
        return Made(line.file, withheld="; ".join(map(str, output.verdicts)))
    return Made(line.file, encoded(image, settings=record))
