"""The quantization as a story: open the folder, paint to calibrate, quantize, measure, publish."""

import gc
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pleinair.runtime import catalog
from pleinair.runtime.bundle import GRAPH_FILES, TEXT, Bundle
from pleinair.runtime.errors import ExportError

from .. import manifest
from . import layers, post_training, prompts, publishing
from .attention import SelfAttention, highest, self_attentions
from .distance import LEAST_SNR, Distance, outputs
from .trajectories import Sample, Trajectories, pictures, record

PARTS = ("unet", "vae_decoder")
SENSITIVITY = "int8-sensitivity.json"

_MAKERS = ("pleinair", "nncf", "openvino", "onnx", "onnxruntime")

# One pass over a sample, next to the others; for the progress bar only. NNCF goes over the samples
# for SmoothQuant, for the ranges and for the biases.
_COST = {"unet": 1.0, "vae_decoder": 3.0}
_PASSES = 3
# Of each layer group, to compare them: the samples it is calibrated and measured on.
_FEW = 4

Progress = Callable[[str, float], None]


def quantize_model(
    folder: str | Path,
    formats: Iterable[str] | None = None,
    parts: Iterable[str] = PARTS,
    weights_only: bool = False,
    attention_stride: int = 2,
    attention_levels: int | None = None,
    samples: int = 40,
    steps: int = 8,
    size: int | None = None,
    calibration_prompts: Sequence[str] = prompts.PROMPTS,
    keep: Iterable[str] = (),
    overwrite: bool = False,
    on_progress: Progress | None = None,
) -> Path:
    """Add `unet_int8/` and `vae_decoder_int8/` to an exported folder, ours or optimum's.

    The folder's own pipeline paints a few pictures, and what its UNet and decoder were asked is
    what the graphs are calibrated on. One more picture is held out: on it the new graphs are
    measured against the old ones. They appear in the folder when all are sound, or not at all.

    Args:
        folder: with graphs in OpenVINO's format, in ONNX, or in both.
        formats: "openvino", "onnx" or both; None is what the folder has.
        parts: "unet", "vae_decoder" or both.
        weights_only: 8 bits for weights alone, for processors without 8-bit arithmetic (VNNI).
        attention_stride: keys and values of the largest self-attentions come from every row and
            column of that number; 1 takes them all.
        attention_levels: at how many resolutions, from the largest down; None is one, where that
            has enough tokens to gain anything (see `attention.FEWEST_TOKENS`).
        samples: of the UNet's inputs, for calibration.
        steps: of each picture painted for it.
        size: of those pictures, in pixels a side; None is what the model was made for.
        calibration_prompts: painted in turn.
        keep: groups of layers that stay in floating point, beside `layers.ENDS`; as
            `measure_sensitivity` names them.
        overwrite: replace int8 graphs of these formats that are there.
        on_progress: called with what is being done and the share done, from 0 to 1.

    Returns the folder. Raises BundleError for what is no exported model, and ExportError where
    int8 graphs are there already, NNCF is missing or fails, or a graph is too far off.
    """
    plan = _Plan.checked(
        *(folder, formats, parts, weights_only, attention_stride, attention_levels),
        *(samples, steps, size, calibration_prompts, keep, on_progress),
    )
    post_training.load()
    names = [f"{part}_int8" for part in plan.parts]
    with publishing.publishing(plan.bundle, names, plan.formats, overwrite) as staging:
        seen = plan.paint()
        facts = {}
        for part, name in zip(plan.parts, names, strict=True):
            config = plan.bundle.path / part / "config.json"
            if config.is_file():
                shutil.copyfile(config, staging / name / "config.json")
            facts[part] = {
                form: plan.quantize(part, form, seen, staging / name) for form in plan.formats
            }
        plan.clock.says("writing the manifest")
        publishing.publish(plan.bundle, staging, names, facts)
    plan.clock.report("done", 1.0)
    return plan.bundle.path


def measure_sensitivity(
    folder: str | Path,
    formats: Iterable[str] | None = None,
    parts: Iterable[str] = PARTS,
    attention_stride: int = 2,
    attention_levels: int | None = None,
    steps: int = 8,
    size: int | None = None,
    calibration_prompts: Sequence[str] = prompts.PROMPTS,
    overwrite: bool = False,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """How far each group of layers, alone in 8 bits, takes a graph's output from what it was.

    Each is calibrated on a few samples and measured on a few held out, without SmoothQuant and
    bias correction: that is enough to tell which group costs most. Writes what it returns to
    `int8-sensitivity.json` in the folder: part -> group -> {"snr_db", "relative_error"}.

    Arguments and errors: as `quantize_model`. The first of the formats is measured; the others
    hold the same layers.
    """
    plan = _Plan.checked(
        *(folder, formats, parts, False, attention_stride, attention_levels),
        *(_FEW, steps, size, calibration_prompts, (), on_progress),
    )
    post_training.load()
    report = plan.bundle.path / SENSITIVITY
    if report.exists() and not overwrite:
        raise ExportError(f"{report} exists; move it away, or add --overwrite")
    plan.expect_groups()
    with publishing.staging(plan.bundle) as aside:
        seen = plan.paint()
        measured = {part: plan.sensitivity(part, seen, aside) for part in plan.parts}
    found = {"settings": plan.settings(), "parts": measured}
    publishing.write_whole(report, json.dumps(found, indent=2) + "\n")
    plan.clock.report("done", 1.0)
    return measured


@dataclass
class _Clock:
    """The share of the work that is done, in passes of one sample through the UNet."""

    report: Progress
    total: float
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
class _Plan:
    """One folder, and what is to be made of it."""

    bundle: Bundle
    formats: list[str]
    parts: list[str]
    weights_only: bool
    stride: int
    levels: int | None
    samples: int
    steps: int
    size: int | None
    prompts: Sequence[str]
    keep: list[str]
    clock: _Clock = field(init=False)

    @classmethod
    def checked(
        cls,
        folder: str | Path,
        formats: Iterable[str] | None,
        parts: Iterable[str],
        weights_only: bool,
        stride: int,
        levels: int | None,
        samples: int,
        steps: int,
        size: int | None,
        calibration_prompts: Sequence[str],
        keep: Iterable[str],
        on_progress: Progress | None,
    ) -> "_Plan":
        """Everything that can be refused is refused here, before any work."""
        for name, number in (
            *(("attention_stride", stride), ("attention_levels", levels)),
            *(("samples", samples), ("steps", steps)),
        ):
            if number is not None and number < 1:
                raise ExportError(f"{name} is {number}; give 1 or more")
        bundle = Bundle.open(catalog.find(folder))
        if not (bundle.path / "model_index.json").is_file():
            raise ExportError(
                f"{bundle.path}: of a layout that has no place for more graphs; export it anew"
            )
        if bundle.task != TEXT:
            raise ExportError(
                f"{bundle.path}: made for {bundle.task}; calibration paints from text alone"
            )
        plan = cls(
            bundle,
            _chosen("formats", formats, tuple(GRAPH_FILES), list(bundle.graphs)),
            _chosen("parts", parts, PARTS, list(PARTS)),
            weights_only,
            stride,
            levels,
            0 if weights_only else samples,
            min(steps, catalog.defaults(bundle).steps),
            size,
            prompts.checked(calibration_prompts),
            list(keep),
        )
        for form in plan.formats:
            for part in plan.parts:
                bundle.graph(part, form)
        plan.clock = _Clock(on_progress or (lambda stage, share: None), plan._work())
        plan._check_groups()
        return plan

    def _groups(self, part: str) -> set[str]:
        """The groups of layers that a graph of the folder's has."""
        form = self.formats[0]
        return set(_backend(form).groups(self.bundle.graph(part, form)).values())

    def _check_groups(self) -> None:
        if not self.keep:
            return
        known = {group for part in self.parts for group in self._groups(part)}
        for group in self.keep:
            if group not in known:
                raise ExportError(
                    f"there are no layers {group!r} to keep; there are: {', '.join(sorted(known))}"
                )

    def _painting(self) -> float:
        return 2 * pictures(self.samples, self.steps) * self.steps

    def _work(self) -> float:
        """In passes of one sample through the UNet."""
        passes = {
            "unet": _PASSES * self.samples + 3 * self.steps,
            "vae_decoder": _PASSES * pictures(self.samples, self.steps) + 2,
        }
        each = sum(passes[part] * _COST[part] for part in self.parts)
        return self._painting() + len(self.formats) * each

    def expect_groups(self) -> None:
        """Let the clock count what a sensitivity report takes."""
        passes = {part: 2 * _FEW * len(self._groups(part)) for part in self.parts}
        each = sum(passes[part] * _COST[part] for part in self.parts)
        self.clock.total = self._painting() + each

    def paint(self) -> Trajectories:
        self.clock.says("painting to calibrate")
        shown = (self.samples, self.steps, self.size, lambda: self.clock.did(2))
        seen = record(self.bundle, self.prompts, *shown)
        gc.collect()  # the pipeline's graphs are gone: what comes needs the room
        return seen

    def quantize(self, part: str, form: str, seen: Trajectories, target: Path) -> dict[str, Any]:
        """Write one graph in 8 bits, and say how far it is from the one it was made of."""
        backend = _backend(form)
        with self._prepared(part, form, target.parent) as (source, graph, strided):
            ignored = self._ignored(backend.groups(graph))
            self.clock.says(f"quantizing {part} for {form}")
            if self.weights_only:
                model = backend.compressed(graph, ignored)
            else:
                tell = self._pass(part)
                model = backend.quantized(graph, getattr(seen, part), tell, ignored)
            made = backend.write(model, target)
            del model
            gc.collect()
            self.clock.says(f"measuring {part} for {form}")
            run = _Measured(backend, source, seen.held_out[part], self._pass(part))
            distances = {"int8": run.distance(made)}
            if strided:
                distances["attention_stride"] = run.distance(graph)
        if not distances["int8"].sound:
            raise ExportError(
                f"{self.bundle.path}: {part} in int8 ({form}) is off by "
                f"{distances['int8'].snr_db} dB where {LEAST_SNR:g} are the least; nothing was "
                "written. Keep more layers with --keep (see --sensitivity), or --weights-only"
            )
        samples = 0 if self.weights_only else len(getattr(seen, part))
        return {
            **self.settings(),
            "attention_stride": self.stride if strided else 1,
            "strided_attentions": strided,
            "samples": samples,
            "held_out_samples": len(seen.held_out[part]),
            "distance": {name: one.as_json() for name, one in distances.items()},
        }

    def sensitivity(self, part: str, seen: Trajectories, aside: Path) -> dict[str, Any]:
        """Group -> distance, with that group alone in 8 bits."""
        form = self.formats[0]
        backend = _backend(form)
        found = {}
        with self._prepared(part, form, aside) as (_, graph, _):
            groups = backend.groups(graph)
            few = seen.held_out[part][:_FEW]
            run = _Measured(backend, graph, few, self._pass(part))
            for group in sorted(set(groups.values())):
                self.clock.says(f"measuring {part} {group}")
                others = [name for name, one in groups.items() if one != group]
                given = (getattr(seen, part)[:_FEW], self._pass(part), others)
                made = backend.write(backend.quantized(graph, *given, quick=True), aside)
                found[group] = run.distance(made).as_json()
        return found

    @contextmanager
    def _prepared(self, part: str, form: str, staging: Path) -> Iterator[tuple[Path, Path, int]]:
        """A graph of the folder's, what is to be quantized, and how many attentions it strides."""
        source = self.bundle.graph(part, form)
        work = staging / "work"
        work.mkdir()
        try:
            graph, strided = _backend(form).prepare(source, work, self._strided(part), self.stride)
            yield source, graph, strided
        finally:
            gc.collect()  # Windows deletes no file that is mapped
            shutil.rmtree(work)

    def _strided(self, part: str) -> Callable[[Any], Sequence[SelfAttention]]:
        """Says which attentions of an openvino.Model take fewer keys."""
        if part != "unet" or self.stride == 1:
            return lambda model: []
        side = self.bundle.sample_size
        return lambda model: highest(model, self_attentions(model), side, self.levels)

    def _ignored(self, groups: dict[str, str]) -> list[str]:
        kept = {*layers.ENDS, *self.keep}
        return [name for name, group in groups.items() if group in kept]

    def _pass(self, part: str) -> Callable[[], None]:
        return lambda: self.clock.did(_COST[part])

    def settings(self) -> dict[str, Any]:
        return {
            "weights_only": self.weights_only,
            "kept_in_floating_point": [*layers.ENDS, *self.keep],
            "steps": self.steps,
            "size": self.size or catalog.defaults(self.bundle).size,
            "prompts": list(self.prompts[: pictures(self.samples, self.steps)]),
            "created_by": manifest.versions(_MAKERS),
        }


class _Measured:
    """Distances from one graph, whose own outputs are computed once."""

    def __init__(
        self, backend: Any, source: Path, samples: Sequence[Sample], tell: Callable[[], None]
    ) -> None:
        self._run = lambda graph: outputs(backend.engine(), graph, samples, tell)
        self._right = self._run(source)

    def distance(self, graph: Path) -> Distance:
        return Distance.between(self._right, self._run(graph))


def _chosen(
    what: str, wanted: Iterable[str] | None, known: Sequence[str], default: list[str]
) -> list[str]:
    if wanted is None:
        return default
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ExportError(f"{what} are {' and '.join(known)}, not {', '.join(unknown) or 'none'}")
    return [name for name in known if name in names]


def _backend(form: str) -> Any:
    if form == "openvino":
        from . import openvino_graph

        return openvino_graph
    try:
        from . import onnx_graph
    except ImportError as error:
        raise ExportError(
            f"for ONNX graphs {error.name} is needed; install it with: pip install 'pleinair[int8]'"
        ) from None
    return onnx_graph
