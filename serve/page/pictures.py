"""What the page asks of a picture that somebody brings: how it was made, and its edges."""

import io
from typing import Any

from pleinair.runtime.images.condition import Condition
from pleinair.runtime.images.pixels import as_picture
from pleinair.runtime.images.reading import over
from pleinair.runtime.record import metadata
from pleinair.runtime.record.fitting import fitted

from ..asked import Asked
from ..models import Models
from ..pictures import received
from ..settings import Settings

_THRESHOLDS = 100.0, 200.0
"""Canny's, in ControlNet's guides."""
_WHOLE = 2**53
"""Whole numbers from here on are not kept apart by browsers."""


def settings_of(data: bytes, models: Models, name: str | None) -> dict[str, Any]:
    """What a picture file says of how it was made, fitted to the model that paints it again.

    name: of that model, where the picture's own is not here; None is the first.
    Raises SettingError where it says nothing.
    """
    found = metadata.read(data)
    stated = found.settings.get("model")
    model = Asked(model=stated if stated in models.folders else name)
    settings, gone = fitted(found.settings, found.program, models.pipeline(model).family)
    ignored = [*found.ignored, *gone]
    for key, value in list(settings.items()):
        if isinstance(value, int) and abs(value) >= _WHOLE:
            ignored.append(f"{key} {settings.pop(key)}")
    return {"settings": settings, "ignored": ignored, "program": found.program}


def edges(data: bytes, size: tuple[int, int], settings: Settings) -> bytes:
    """A PNG of that size with the edges in a picture, as ControlNets were shown them.

    Raises Refusal where it is no picture.
    """
    condition = Condition(over(received(data, settings), "black"), _THRESHOLDS)
    found = as_picture(condition.pixels(size, "stretch")[0].transpose(1, 2, 0))
    file = io.BytesIO()
    found.save(file, "PNG")
    return file.getvalue()
