"""What Pleinair itself writes: JSON under `pleinair`, in EXIF as ImageDescription."""

from collections.abc import Mapping

from ...errors import SettingError
from .said import Said, json_of

KEY = "pleinair"
SOFTWARE = "Pleinair"


def read(texts: Mapping[str, str]) -> Said | None:
    """None too where it is damaged: webui's text beside it says nearly as much."""
    text = texts.get(KEY) or texts.get(SOFTWARE)
    if not text:
        return None
    try:
        settings = json_of(text, KEY)
    except SettingError:
        return None
    return Said(settings, typed=True) if settings and isinstance(settings, dict) else None
