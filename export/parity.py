"""The check: a written graph against the module that it came from, on several shapes."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from pleinair.runtime.errors import ExportError

from .graphs.graph import Graph, Inputs

# Largest errors allowed, relative to the largest value of the module's output. An engine differs
# from torch by the order of additions, some 1e-6 after a whole UNet; a wrongly traced branch is
# off by about 1. Rounding the weights to float16, where they are stored so, costs some 1e-3 and
# is judged apart: it would hide a wrong graph.
TOLERANCE = 1e-4
ROUNDING_TOLERANCE = 2e-2


@dataclass(frozen=True)
class Parity:
    """How far one graph in one format is from its module, over the trials of these shapes."""

    shapes: list[dict[str, list[int]]]
    max_abs: float
    max_rel: float
    tolerance: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Trials:
    """Inputs of several shapes with the outputs of the module, which may be gone by the check."""

    inputs: list[Inputs]
    outputs: list[dict[str, np.ndarray]]


def reference(graph: Graph) -> Trials:
    """Run the module itself, in float32, on each of the graph's cases."""
    cases = [case() for case in graph.cases]
    results = []
    with torch.no_grad():
        for inputs in cases:
            outputs = graph.module(**inputs)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            named = zip(graph.outputs, outputs, strict=True)
            results.append({name: value.numpy() for name, value in named})
    return Trials(cases, results)


def compare(
    trials: Trials,
    found: Iterable[Mapping[str, np.ndarray]],
    where: str,
    tolerance: float = TOLERANCE,
) -> Parity:
    """Measure how far `found`, the graph's outputs for each trial, is from the module's.

    `where` names the graph in errors. Raises `ExportError` when an output is missing, has another
    shape, is not finite or is further off than `tolerance`.
    """
    max_abs = max_rel = 0.0
    for wanted, got in zip(trials.outputs, found, strict=True):
        for name, right in wanted.items():
            error, scale = _distance(where, name, right, got.get(name))
            max_abs = max(max_abs, error)
            max_rel = max(max_rel, error / scale)
            if error > tolerance * scale:
                raise ExportError(
                    f"{where}: output {name} is off by {error / scale:.1e} of its range (tolerance "
                    f"{tolerance:.0e}); nothing was written. Try --precision fp32, or report it"
                )
    shapes = [{key: list(value.shape) for key, value in case.items()} for case in trials.inputs]
    return Parity(shapes, _rounded(max_abs), _rounded(max_rel), tolerance)


def _distance(
    where: str, name: str, right: np.ndarray, value: np.ndarray | None
) -> tuple[float, float]:
    if value is None:
        raise ExportError(f"{where}: the graph has no output {name}")
    if value.shape != right.shape:
        raise ExportError(f"{where}: output {name} is {value.shape} instead of {right.shape}")
    if not np.isfinite(value).all():
        raise ExportError(f"{where}: output {name} is not finite; try --precision fp32")
    return float(np.abs(value - right).max()), max(float(np.abs(right).max()), 1e-6)


def _rounded(error: float) -> float:
    return float(f"{error:.3g}")
