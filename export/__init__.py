"""The studio: turns a Stable Diffusion checkpoint into the folder that the runtime paints with.

This is the only room that needs torch. It runs once per checkpoint: find the weights, build the
modules, trace them, compare every graph with its module, publish the folder whole or not at all.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .model import export_model

__all__ = ["export_model"]


def __getattr__(name: str) -> Any:
    """Load torch and its company only when an export is really asked for."""
    if name == "export_model":
        from .model import export_model

        return export_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
