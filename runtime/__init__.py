"""Stable Diffusion on the CPU: numpy, an inference engine, no torch.

from pleinair.runtime import StableDiffusionPipeline

pipe = StableDiffusionPipeline.from_pretrained("models/pocket")
pipe("a red apple", seed=1).images[0].save("apple.png")
"""

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engines.shelf import Shelf
    from .pipeline import Pipeline, PipelineOutput, Plan, StableDiffusionPipeline
    from .record.saving import save

__all__ = ["Pipeline", "PipelineOutput", "Plan", "Shelf", "StableDiffusionPipeline", "save"]
__version__ = "0.1.0"

# A library does not print: whoever embeds it decides where its few lines go.
logging.getLogger("pleinair").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    # Imported when first asked for: `import pleinair.runtime` alone stays a matter of milliseconds.
    if name == "save":
        from .record.saving import save

        return save
    if name == "Shelf":
        from .engines.shelf import Shelf

        return Shelf
    if name in __all__:
        from . import pipeline

        return getattr(pipeline, name)
    if name.endswith(("Pipeline", "Scheduler", "Model", "Checker")) or name.startswith("Auto"):
        from .options import migration

        if name in migration.PIPELINES:
            return __getattr__("Pipeline")
        if line := migration.class_line(name):
            raise ImportError(line)  # what `from pleinair.runtime import …` shows
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
