"""The export as a story: open the checkpoint, check the disk, then one sub-model after another."""

import gc
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from pleinair.runtime.adapters import lora as lora_files
from pleinair.runtime.errors import ExportError

from . import (
    architecture,
    controlnet,
    folder,
    graphs,
    lora,
    manifest,
    parity,
    tokenizer,
    weights,
    xl,
)
from .solver import Solver
from .source import Checkpoint, ControlNetFolder, open_checkpoint
from .tiny_vae import TinyVae, open_tiny_vae

FORMATS = ("openvino", "onnx")
PRECISIONS = ("fp16", "fp32")

# How long a graph takes per parameter, next to the others; for the progress bar only.
_COST = {
    "text_encoder": 1,
    "text_encoder_2": 1,
    "unet": 2,
    "vae_decoder": 4,
    "vae_encoder": 4,
    "safety_checker": 1,
    "vae_decoder_tiny": 4,
}

Progress = Callable[[str, float], None]


def export_model(
    source: str | Path,
    output: str | Path,
    formats: Iterable[str] = ("openvino",),
    precision: str = "fp16",
    revision: str | None = None,
    overwrite: bool = False,
    loras: Sequence[lora_files.Named] = (),
    vae: str | Path | None = None,
    text_encoder: str | Path | None = None,
    ema: bool = False,
    prediction_type: str | None = None,
    safety_checker: bool = True,
    tiny_vae: str | Path | None = None,
    scheduler: str | None = None,
    timestep_spacing: str | None = None,
    on_progress: Progress | None = None,
) -> Path:
    """Export a Stable Diffusion checkpoint, or a ControlNet, to a folder that needs no torch.

    Args:
        source: a diffusers folder, a hub id ("owner/name"), or one `.safetensors` or `.ckpt`
            file in the original CompVis layout, whose kind its tensors tell. The folder or hub id
            may be a ControlNet's: then `output` is what the runtime takes as `controlnet`.
        output: the folder to make. It appears when everything in it has been checked.
        formats: "openvino", "onnx" or both.
        precision: how weights are stored, "fp16" or "fp32"; engines compute in float32 either way.
        revision: branch, tag or commit, for a hub id.
        loras: LoRA, LoHa or LoKr files to merge; each a path, (path, weight) or "path:0.8".
        safety_checker: export the checkpoint's own, where it has one.
        tiny_vae: a folder or hub id of an AutoencoderTiny for the same latents, to decode fast.
        scheduler, timestep_spacing: what the folder names as its solver in place of the
            checkpoint's, as "lcm" for a merged LCM-LoRA (see `solver.Solver`).
        overwrite: replace `output` if it exists; the old folder stays until the new one is whole.
        vae, text_encoder: take this sub-model from a folder or a file (see `part.open_part`).
        ema: of a single file, the running averages of the UNet's weights.
        prediction_type: of a single file, "epsilon", "v_prediction" or "sample" (see
            `single_file.SingleFile` for what is assumed without it).
        on_progress: called with what is being done and the share done, from 0 to 1.

    Returns the folder. Raises `SourceError` when the checkpoint cannot be found, fetched, trusted
    or fitted to its architecture, `ExportError` when the folder cannot be written or a graph
    differs from its PyTorch module by more than the tolerance, `SchedulerError` for a solver that
    is not known or cannot be made of the checkpoint's configuration.
    """
    solver = Solver(scheduler, timestep_spacing)
    chosen = _formats(formats)
    if precision not in PRECISIONS:
        raise ExportError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
    if Path(source).exists() and Path(output).exists() and Path(source).samefile(output):
        raise ExportError(f"{output} is the checkpoint itself; choose another folder")
    report = on_progress or (lambda stage, share: None)
    with folder.publishing(Path(output), overwrite) as target, architecture.quiet():
        checkpoint = open_checkpoint(
            source,
            revision,
            vae=vae,
            text_encoder=text_encoder,
            ema=ema,
            prediction_type=prediction_type,
            safety_checker=safety_checker,
        )
        tiny = open_tiny_vae(tiny_vae) if tiny_vae is not None else None
        report("reading the configs", 0.0)
        if isinstance(checkpoint, ControlNetFolder):
            if loras or solver != Solver():
                raise ExportError(
                    f"{source} is a ControlNet, which takes no LoRA and has no scheduler; "
                    "leave them out"
                )
            where = Path(output), target
            controlnet.export(checkpoint, *where, chosen, precision, _backend, report)
            return Path(output)
        files = [lora_files.opened(named) for named in loras]
        plan = _Plan(checkpoint, chosen, precision, files, safety_checker, tiny, solver)
        folder.require_space(Path(output), plan.bytes_needed())
        plan.write_configs(target)
        measured = plan.write_graphs(target, report)
        report("writing the manifest", 1.0)
        manifest.write(target, plan.record(), chosen, precision, measured)
    return Path(output)


def _formats(formats: Iterable[str]) -> list[str]:
    wanted = [formats] if isinstance(formats, str) else list(formats)
    unknown = [name for name in wanted if name not in FORMATS]
    if unknown or not wanted:
        raise ExportError(f"formats are {' and '.join(FORMATS)}, not {unknown or 'none'}")
    return [name for name in FORMATS if name in wanted]


class _Plan:
    """One checkpoint with the formats and precision to give it."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        formats: list[str],
        precision: str,
        loras: Sequence[lora_files.Lora] = (),
        safety_checker: bool = True,
        tiny_vae: TinyVae | None = None,
        solver: Solver | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.index = checkpoint.model_index()
        self.scheduler = checkpoint.scheduler()
        if solver not in (None, Solver()):
            self.scheduler = solver.config(self.scheduler)
            self.index["scheduler"] = ["diffusers", self.scheduler["_class_name"]]
        own = architecture.classes(self.index)
        self.preprocessor = checkpoint.preprocessor() if safety_checker else None
        self.tiny_vae = tiny_vae
        self.parts: dict[str, Checkpoint | TinyVae] = dict.fromkeys(own, checkpoint)
        if self.preprocessor is not None:
            self.parts["safety_checker"] = checkpoint
        if tiny_vae is not None:
            tiny_vae.require_fit(checkpoint.config("vae"))
            self.parts["tiny_vae"] = tiny_vae
        self.formats = formats
        self.precision = precision
        self.name = checkpoint.record["name"]
        self.configs = {name: part.config(name) for name, part in self.parts.items()}
        xl.complete(self.configs, self.index, self.name)
        architecture.check_upscaler(self.index, self.configs, self.name)
        self.sizes = {name: self._size(name) for name in self.configs}
        self.rounding: dict[str, parity.Parity] = {}
        self.loras = loras
        skeletons = {name: self._skeleton(name) for name in own} if loras else {}
        self.changes = lora.planned(loras, skeletons)

    def record(self) -> dict[str, Any]:
        """Where the folder comes from, for the manifest."""
        merged = {"loras": lora.record(self.loras)} if self.loras else {}
        tiny = {"tiny_vae": self.tiny_vae.record} if self.tiny_vae else {}
        return self.checkpoint.record | merged | tiny

    def _size(self, submodel: str) -> int:
        return architecture.count_parameters(self._skeleton(submodel))

    def _skeleton(self, submodel: str) -> Any:
        return architecture.build(submodel, self.configs[submodel], f"{self.name}/{submodel}")

    def bytes_needed(self) -> int:
        """Room for the finished folder, and for the largest graph once more while it is made."""
        stored = sum(self.sizes.values()) * (2 if self.precision == "fp16" else 4)
        passing = max(self.sizes.values()) * 4
        return int(stored * len(self.formats) * 1.05) + passing + 16_000_000

    def write_configs(self, target: Path) -> None:
        # Not named even where its graph is there: optimum takes a name for PyTorch's weights.
        dropped = ["safety_checker", "image_encoder"]
        if self.preprocessor is None:
            dropped.append("feature_extractor")
        else:
            file = target / "feature_extractor" / "preprocessor_config.json"
            manifest.write_json(file, self.preprocessor)
        index = {key: value for key, value in self.index.items() if key != "_name_or_path"}
        index |= {name: [None, None] for name in dropped if name in index}
        if "text_encoder_2" not in self.configs:  # XL's pipelines have no such setting
            index["requires_safety_checker"] = False
        manifest.write_json(target / "model_index.json", index)
        manifest.write_json(target / "scheduler" / "scheduler_config.json", self.scheduler)
        if noising := self.checkpoint.low_res_scheduler():
            manifest.write_json(target / "low_res_scheduler" / "scheduler_config.json", noising)
        for name in self._tokenizers():
            self.checkpoint.write_tokenizer(target / name)
            tokenizer.complete(target / name, openvino="openvino" in self.formats)

    def _tokenizers(self) -> list[str]:
        """One for each text encoder, of the same number."""
        encoders = [name for name in self.configs if name.startswith("text_encoder")]
        return [name.replace("text_encoder", "tokenizer") for name in encoders]

    def write_graphs(self, target: Path, report: Progress) -> dict[str, Any]:
        """Export one sub-model at a time, so that only one is in memory; return the parities."""
        clock = _Clock(self.sizes, len(self.formats), report)
        measured: dict[str, Any] = {}
        for submodel in self.parts:
            clock.says(f"loading {submodel}")
            trials = self._trace(submodel, target, clock)
            # The module is gone here: an engine about to compile a UNet needs the room.
            gc.collect()
            for name, expected in trials.items():
                measured[name] = self._check(name, expected, target, clock)
        return measured

    def _trace(self, submodel: str, target: Path, clock: "_Clock") -> dict[str, parity.Trials]:
        """Write the graphs of one sub-model in every format; return what they should compute."""
        module = self._skeleton(submodel)
        weights.load(module, self.parts[submodel].weights(submodel), f"{self.name}/{submodel}")
        lora.merge(module, self.changes.get(submodel, {}))
        config = architecture.published_config(module, self.configs[submodel])
        owned = [name for name, owner in graphs.SUBMODEL.items() if owner == submodel]
        built = {name: graphs.BUILD[name](module) for name in owned}
        trials = self._run(submodel, module, built, clock)
        for name, graph in built.items():
            manifest.write_json(target / name / "config.json", config)
            for form in self.formats:
                clock.says(f"tracing {name} for {form}")
                _backend(form).write(graph, target / name, half=self.precision == "fp16")
                clock.finished(name)
        return trials

    def _run(
        self, submodel: str, module: Any, built: dict[str, graphs.Graph], clock: "_Clock"
    ) -> dict[str, parity.Trials]:
        """Run the module itself; for fp16 with rounded weights, noting what the rounding costs."""
        trials = {}
        for name, graph in built.items():
            clock.says(f"running {name}")
            trials[name] = parity.reference(graph)
            clock.finished(name)
        origin = f"{self.name}/{submodel}"
        if self.precision == "fp16" and weights.round_to_half(module, origin):
            for name, graph in built.items():
                clock.says(f"running {name}, rounded")
                exact, trials[name] = trials[name], parity.reference(graph)
                self.rounding[name] = parity.compare(
                    exact,
                    trials[name].outputs,
                    f"{self.name}/{name}, weights rounded to float16",
                    parity.ROUNDING_TOLERANCE,
                )
        return trials

    def _check(
        self, name: str, trials: parity.Trials, target: Path, clock: "_Clock"
    ) -> dict[str, Any]:
        measured = {}
        for form in self.formats:
            clock.says(f"checking {name} in {form}")
            found = _backend(form).run(target / name, trials.inputs)
            where = f"{self.name}/{name} ({form})"
            measured[form] = parity.compare(trials, found, where).as_json()
            clock.finished(name)
        if name in self.rounding:
            measured["rounding"] = self.rounding[name].as_json()
        return measured


class _Clock:
    """The share of the work that is done: parameters, by what a graph costs per parameter."""

    def __init__(self, sizes: dict[str, int], formats: int, report: Progress) -> None:
        self.report = report
        owners = graphs.SUBMODEL.items()
        self.cost = {name: _COST[name] * sizes[sub] for name, sub in owners if sub in sizes}
        # Every graph is run once by torch, then traced and checked once in each format.
        self.total = sum(self.cost.values()) * (1 + 2 * formats)
        self.done = 0

    def says(self, stage: str) -> None:
        self.report(stage, self.done / self.total)

    def finished(self, graph: str) -> None:
        self.done += self.cost[graph]


def _backend(name: str) -> Any:
    if name == "openvino":
        from . import openvino_ir

        return openvino_ir
    from . import onnx_model

    return onnx_model
