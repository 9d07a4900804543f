"""Pictures: read and fitted, masks and edges, sheets, previews, watermarks."""

import importlib
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    """The modules that scripts know here from the first edition: a picture's text, in `record`."""
    if name in ("infotext", "metadata"):
        return importlib.import_module(f"..record.{name}", __name__)
    raise AttributeError(name)
