"""What is asked of an export, checked before any work."""

import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pleinair.runtime.adapters import lora
from pleinair.runtime.errors import ExportError, shown, to_install
from pleinair.runtime.families.distillation import AUTO, KINDS

from .formats import FORMATS
from .solver import Solver

PRECISIONS = ("fp16", "fp32")


@dataclass(frozen=True)
class Request:
    """The arguments of `export_model`, which says what they mean.

    Raises `ExportError` for a precision or kind of few steps that is not known, where `output` is
    `source` itself, and where what makes graphs in 8 bits is missing.
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
    few_steps: str | None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ExportError(f"precision {self.precision!r} is not one of {', '.join(PRECISIONS)}")
        if self.few_steps is not None:
            self._check_few_steps(self.few_steps)
        source = Path(self.source)
        if source.exists() and self.output.exists() and source.samefile(self.output):
            raise ExportError(f"{self.output} is the checkpoint itself; choose another folder")

    @staticmethod
    def _check_few_steps(kind: str) -> None:
        if kind not in (AUTO, *KINDS):
            raise ExportError(f"few_steps is {shown(kind)}; give {AUTO}, or {', '.join(KINDS)}")
        if importlib.util.find_spec("nncf") is None:
            raise ExportError(
                f"for graphs in 8 bits nncf is needed; install it with: {to_install('int8')}"
            )

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
