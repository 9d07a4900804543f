"""The formats that graphs are written in."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from .graphs.graph import Graph, Inputs

FORMATS = ("openvino", "onnx")


class Backend(Protocol):
    """Writes graphs in one format, and runs what it has written."""

    def write(self, graph: Graph, folder: Path, half: bool) -> None:
        """Trace `graph` and save it in `folder`; `half` stores the weights as float16."""

    def run(self, folder: Path, cases: Iterable[Inputs]) -> Iterator[dict[str, np.ndarray]]:
        """Run it on the CPU in float32; yield its outputs, by name, for each case."""


def backend(name: str) -> Backend:
    """Return what writes the format of this name; its libraries are imported only here."""
    if name == "openvino":
        from . import openvino_ir

        return openvino_ir
    from . import onnx_model

    return onnx_model
