"""How far a graph's outputs are from another's, on the same inputs."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pleinair.runtime.engines.protocol import Engine, first_line
from pleinair.runtime.errors import ExportError

from .trajectories import Sample

# Below this a graph is broken rather than rounded: noise of a third of what it should say. Sound
# ones reach 20 dB and more.
LEAST_SNR = 10.0


@dataclass(frozen=True)
class Distance:
    """Signal to noise, in decibels, and the root of noise over signal, summed over all samples.

    snr_db: 10 log10(sum of squares / sum of squared errors); infinite where nothing differs, not a
        number where the graph gives such.
    """

    snr_db: float
    relative_error: float

    @classmethod
    def between(
        cls, right: Sequence[NDArray[np.float32]], found: Sequence[NDArray[np.float32]]
    ) -> "Distance":
        signal = sum(float(np.square(one, dtype=np.float64).sum()) for one in right)
        noise = sum(
            float(np.square(a - b, dtype=np.float64).sum())
            for a, b in zip(right, found, strict=True)
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            snr = 10 * np.log10(np.float64(signal) / np.float64(noise))
        return cls(round(float(snr), 2), float(f"{np.sqrt(noise / signal):.3g}"))

    @property
    def sound(self) -> bool:
        """Whether pictures can be painted with it: False for what is no number, too."""
        return self.snr_db >= LEAST_SNR

    def as_json(self) -> dict[str, Any]:
        """JSON has no infinity: None stands for it."""
        return {key: value if np.isfinite(value) else None for key, value in asdict(self).items()}


def outputs(
    engine: Engine, graph: Path, samples: Sequence[Sample], tell: Callable[[], None]
) -> list[NDArray[np.float32]]:
    """What the graph gives for each sample, run as the runtime runs it; `tell` after each.

    Raises EngineError where the engine cannot open it, ExportError where it fails at a sample.
    """
    compiled = engine.compile(graph, {name: one.shape for name, one in _shaped(samples[0])})
    found = []
    for sample in samples:
        try:
            (output,) = compiled(sample).values()
        except Exception as error:  # the engines' errors share no base class
            raise ExportError(f"{graph}: {engine.name} fails at it: {first_line(error)}") from error
        found.append(output)
        tell()
    return found


def _shaped(sample: Sample) -> list[tuple[str, NDArray[Any]]]:
    """Inputs whose shape an engine is told; it knows that of a timestep."""
    return [(name, value) for name, value in sample.items() if value.ndim > 1]
