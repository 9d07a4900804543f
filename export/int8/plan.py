"""What is to be made of one folder, and the steps to it: paint, prepare, quantize, measure."""

import gc
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pleinair.runtime import families
from pleinair.runtime.errors import ExportError, to_install
from pleinair.runtime.families.family import Family

from .. import manifest
from . import layers
from .attention import SelfAttention, highest, self_attentions
from .distance import LEAST_SNR, Distance, outputs
from .trajectories import Sample, Trajectories, pictures, record, spread

_MAKERS = ("pleinair", "nncf", "openvino", "onnx", "onnxruntime")

# One pass over a sample, next to the others; for the progress bar only. NNCF goes over the samples
# for SmoothQuant, and for ranges and biases; of ONNX graphs we look at convolutions' results, too.
_DENOISER, _DECODER = 1.0, 3.0
_PASSES = {"openvino": 2, "onnx": 3}
# Of each layer group, to compare them: the samples it is calibrated and measured on.
FEW = 4

Progress = Callable[[str, float], None]


def opened(folder: str | Path) -> Family:
    """The model of that path or name; raises BundleError or ExportError where it cannot serve."""
    family = families.open_model(folder)
    path = family.bundle.path
    if not (path / "model_index.json").is_file():
        raise ExportError(f"{path}: of a layout that has no place for more graphs; export it anew")
    if family.task != "text":
        raise ExportError(f"{path}: made for {family.task}; calibration paints from text alone")
    return family


@dataclass
class Clock:
    """The share of the work that is done, in passes of one sample through the denoiser."""

    report: Progress
    total: float = 1.0
    done: float = 0.0
    stage: str = ""

    def says(self, stage: str) -> None:
        self.stage = stage
        self.report(stage, self.done / self.total)

    def did(self, cost: float) -> None:
        # How often NNCF goes over the samples depends on its version: the end is not passed.
        self.done = min(self.done + cost, 0.99 * self.total)
        self.says(self.stage)


@dataclass
class Plan:
    """One model, and what is to be made of it: see `model.quantize_model` for the settings.

    Whatever can be refused is refused when it is made, with ExportError or BundleError.
    """

    family: Family
    formats: list[str]
    parts: list[str]
    clock: Clock
    weights_only: bool = False
    attention_stride: int = 2
    attention_levels: int | None = None
    samples: int = FEW
    steps: int = 8
    size: int | None = None
    prompts: Sequence[str] = ()
    keep: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("attention_stride", "attention_levels", "samples", "steps"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ExportError(f"{name} is {number}; give 1 or more")
        if self.weights_only:
            self.samples = 0
        self.steps = min(self.steps, self.family.recommended.steps)
        for form in self.formats:
            for part in self.parts:
                self.family.bundle.graph(part, form)
        self._check_groups()
        self.clock.total = self._painting() + self._quantizing()

    def _groups(self, part: str) -> set[str]:
        """The groups of layers that a graph of the folder's has."""
        form = self.formats[0]
        return set(_backend(form).groups(self.family.bundle.graph(part, form)).values())

    def _check_groups(self) -> None:
        if not self.keep:
            return
        known = {group for part in self.parts for group in self._groups(part)}
        for group in self.keep:
            if group not in {*known, *layers.ENDS}:
                raise ExportError(
                    f"there are no layers {group!r} to keep; there are: {', '.join(sorted(known))}"
                )

    def _painting(self) -> float:
        return 2 * pictures(self.samples, self.steps) * self.steps

    def _quantizing(self) -> float:
        """In passes of one sample through the denoiser, as the clock counts."""
        denoiser = self.family.denoiser
        samples = {denoiser: self.samples, "vae_decoder": pictures(self.samples, self.steps)}
        measured = {denoiser: 3 * self.steps, "vae_decoder": 2}
        return sum(
            (_PASSES[form] * samples[part] + measured[part]) * _cost(part)
            for form in self.formats
            for part in self.parts
        )

    def expect_groups(self) -> None:
        """Let the clock count what a sensitivity report takes."""
        passes = {part: 2 * FEW * len(self._groups(part)) for part in self.parts}
        each = sum(passes[part] * _cost(part) for part in self.parts)
        self.clock.total = self._painting() + each

    def paint(self) -> Trajectories:
        self.clock.says("painting to calibrate")
        trajectories = record(
            self.family,
            self.prompts,
            self.samples,
            steps=self.steps,
            side=self.size,
            tell=lambda: self.clock.did(2),
        )
        gc.collect()  # the pipeline's graphs are gone: what comes needs the room
        return trajectories

    def quantize(
        self, part: str, form: str, trajectories: Trajectories, target: Path
    ) -> dict[str, Any]:
        """Write one graph in 8 bits, and say how far it is from the one it was made of."""
        backend = _backend(form)
        with self._prepared(part, form, target.parent) as (source, graph, strided):
            groups = backend.groups(graph)
            kept = [*layers.always_kept(groups.values()), *self.keep]
            ignored = [name for name, group in groups.items() if group in kept]
            self.clock.says(f"quantizing {part} for {form}")
            if self.weights_only:
                made = backend.compressed(graph, ignored, target)
            else:
                seen, tell = trajectories.seen[part], self._pass(part)
                made = backend.quantized(graph, seen, tell, ignored, target)
            gc.collect()
            self.clock.says(f"measuring {part} for {form}")
            run = _Measured(backend, source, trajectories.held_out[part], self._pass(part))
            distances = {"int8": run.distance(made)}
            if strided:
                distances["attention_stride"] = run.distance(graph)
        if not distances["int8"].sound:
            raise ExportError(
                f"{self.family.bundle.path}: {part} in int8 ({form}) is off by "
                f"{distances['int8'].snr_db} dB where {LEAST_SNR:g} are the least; nothing was "
                "written. Keep more layers with --keep (see --sensitivity), or --weights-only"
            )
        samples = 0 if self.weights_only else len(trajectories.seen[part])
        return {
            **self.settings(),
            "kept_in_floating_point": kept,
            "attention_stride": self.attention_stride if strided else 1,
            "strided_attentions": strided,
            "samples": samples,
            "held_out_samples": len(trajectories.held_out[part]),
            "distance": {name: one.as_json() for name, one in distances.items()},
        }

    def sensitivity(self, part: str, trajectories: Trajectories, aside: Path) -> dict[str, Any]:
        """Group -> distance, with that group alone in 8 bits."""
        form = self.formats[0]
        backend = _backend(form)
        found = {}
        with self._prepared(part, form, aside) as (_, graph, _):
            groups = backend.groups(graph)
            few = spread(trajectories.held_out[part], FEW)
            run = _Measured(backend, graph, few, self._pass(part))
            samples = spread(trajectories.seen[part], FEW)
            for group in sorted(set(groups.values())):
                self.clock.says(f"measuring {part} {group}")
                others = [name for name, one in groups.items() if one != group]
                tell = self._pass(part)
                made = backend.quantized(graph, samples, tell, others, aside, quick=True)
                found[group] = run.distance(made).as_json()
        return found

    @contextmanager
    def _prepared(self, part: str, form: str, staging: Path) -> Iterator[tuple[Path, Path, int]]:
        """A graph of the folder's, what is to be quantized, and how many attentions it strides."""
        source = self.family.bundle.graph(part, form)
        work = staging / "work"
        work.mkdir()
        try:
            graph, strided = _backend(form).prepare(
                source, work, self._strided(part), self.attention_stride
            )
            yield source, graph, strided
        finally:
            gc.collect()  # Windows deletes no file that is mapped
            shutil.rmtree(work)

    def _strided(self, part: str) -> Callable[[Any], Sequence[SelfAttention]]:
        """Says which attentions of an openvino.Model take fewer keys."""
        if part != self.family.denoiser or self.attention_stride == 1:
            return lambda model: []
        side = self.family.size // self.family.space.factor
        return lambda model: highest(model, self_attentions(model), side, self.attention_levels)

    def _pass(self, part: str) -> Callable[[], None]:
        return lambda: self.clock.did(_cost(part))

    def settings(self) -> dict[str, Any]:
        return {
            "weights_only": self.weights_only,
            "steps": self.steps,
            "size": self.size or self.family.recommended.size,
            "prompts": list(self.prompts[: pictures(self.samples, self.steps)]),
            "created_by": manifest.versions(_MAKERS),
        }


class _Measured:
    """Distances from one graph, whose own outputs are computed once."""

    def __init__(
        self, backend: Any, source: Path, samples: Sequence[Sample], tell: Callable[[], None]
    ) -> None:
        self._backend, self._samples, self._tell = backend, samples, tell
        self._right = self._run(source)

    def _run(self, graph: Path) -> list[NDArray[np.float32]]:
        return outputs(self._backend.engine(graph), graph, self._samples, self._tell)

    def distance(self, graph: Path) -> Distance:
        return Distance.between(self._right, self._run(graph))


def _cost(part: str) -> float:
    return _DECODER if part == "vae_decoder" else _DENOISER


def _backend(form: str) -> Any:
    if form == "openvino":
        from . import openvino_graph

        return openvino_graph
    try:
        from . import onnx_graph
    except ImportError as error:
        raise ExportError(
            f"for ONNX graphs {error.name} is needed; install it with: {to_install('int8')}"
        ) from None
    return onnx_graph
