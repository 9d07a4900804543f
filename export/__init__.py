"""The studio: turns a Stable Diffusion checkpoint into the folder that the runtime paints with.

This is the only room that needs torch. It runs once per checkpoint: find the weights, build the
modules, trace them, compare every graph with its module, publish the folder whole or not at all.
`int8/` in it goes on from there, without torch: graphs in 8 bits beside the others.
"""

from typing import TYPE_CHECKING, Any

from pleinair.runtime.engines import telemetry

if TYPE_CHECKING:
    from .int8.model import measure_sensitivity, quantize_model
    from .model import export_model

__all__ = ["export_model", "measure_sensitivity", "quantize_model"]

telemetry.switch_off()  # before any of its modules imports openvino, or nncf


def __getattr__(name: str) -> Any:
    """Load torch, or NNCF, and their company only when they are really asked for."""
    if name == "export_model":
        from .model import export_model

        return export_model
    if name in ("measure_sensitivity", "quantize_model"):
        from .int8 import model

        return getattr(model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
