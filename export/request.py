"""What is asked of an export, checked before any work."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pleinair.runtime.adapters import lora
from pleinair.runtime.errors import ExportError

from .formats import FORMATS
from .solver import Solver

PRECISIONS = ("fp16", "fp32")


@dataclass(frozen=True)
class Request:
    """The arguments of `export_model`, which says what they mean.

    Raises `ExportError` for a precision that is not known, and where `output` is `source` itself.
    """

    source: str | Path
    output: Path
    formats: Sequence[str]
    precision: str
    revision: str | None
    overwrite: bool
    loras: Sequence[lora.Named]
    vae: str | Path | None
    text_encoder: str | Path | None
    unet: str | Path | None
    ema: bool
    prediction_type: str | None
    config: str | Path | None
    safety_checker: bool
    tiny_vae: str | Path | None
    solver: Solver

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ExportError(f"precision {self.precision!r} is not one of {', '.join(PRECISIONS)}")
        source = Path(self.source)
        if source.exists() and self.output.exists() and source.samefile(self.output):
            raise ExportError(f"{self.output} is the checkpoint itself; choose another folder")

    @property
    def half(self) -> bool:
        """Whether weights are stored as float16."""
        return self.precision == "fp16"


def chosen_formats(formats: Iterable[str]) -> list[str]:
    """Return one format or several in their usual order; raises `ExportError` for others."""
    wanted = [formats] if isinstance(formats, str) else list(formats)
    unknown = [name for name in wanted if name not in FORMATS]
    if unknown or not wanted:
        raise ExportError(f"formats are {' and '.join(FORMATS)}, not {unknown or 'none'}")
    return [name for name in FORMATS if name in wanted]
