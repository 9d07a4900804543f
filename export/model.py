"""The export as a story: open the checkpoint, check the disk, then one sub-model after another."""

import gc
from collections.abc import Iterable, Sequence
from pathlib import Path

from pleinair.runtime.adapters import lora
from pleinair.runtime.errors import ExportError

from . import architecture, controlnet, folder, manifest
from .checkpoint import open_checkpoint
from .conversion import Conversion, Progress
from .int8.model import quantize_model
from .plan import Plan
from .request import Request, chosen_formats
from .solver import Solver
from .source import ControlNetFolder

# Of the time that a folder of few steps takes, the part that is not for its graphs in 8 bits.
_CONVERTING = 0.3


def export_model(
    source: str | Path,
    output: str | Path,
    formats: Iterable[str] = ("openvino",),
    precision: str = "fp16",
    revision: str | None = None,
    overwrite: bool = False,
    loras: Sequence[lora.Named] = (),
    vae: str | Path | None = None,
    text_encoder: str | Path | None = None,
    unet: str | Path | None = None,
    ema: bool = False,
    prediction_type: str | None = None,
    config: str | Path | None = None,
    safety_checker: bool = True,
    tiny_vae: str | Path | None = None,
    scheduler: str | None = None,
    timestep_spacing: str | None = None,
    few_steps: str | None = None,
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
            checkpoint's (see `solver.Solver`). None is that of a merged LoRA which is known to be
            distilled to few steps, by its name or title.
        few_steps: make a folder that paints in few steps on a CPU: with the settings of the LoRA's
            authors, with the tiny decoder where there is one, and in profile "balanced", by graphs
            in 8 bits that are calibrated on just these steps. "auto" tells the kind by the LoRA
            file, else by the checkpoint; a key of `runtime.families.distillation.KINDS` says it.
        overwrite: replace `output` if it exists; the old folder stays until the new one is whole.
        vae, text_encoder, unet: take this sub-model from a folder or a file (see `part.open_part`).
        ema: of a single file, the running averages of the UNet's weights.
        prediction_type: of a single file, "epsilon", "v_prediction" or "sample" (see
            `single_file.SingleFile` for what is assumed without it).
        config: of a single file, its `.yaml` of CompVis's kind, in place of one beside it.
        on_progress: called with what is being done and the share done, from 0 to 1.

    Returns the folder. Raises `SourceError` when the checkpoint cannot be found, fetched, trusted
    or fitted to its architecture, `ExportError` when the folder cannot be written or a graph
    differs from its PyTorch module by more than the tolerance, `SchedulerError` for a solver that
    is not known or cannot be made of the checkpoint's configuration.
    """
    request = Request(
        source=source,
        output=Path(output),
        formats=chosen_formats(formats),
        precision=precision,
        revision=revision,
        overwrite=overwrite,
        loras=loras,
        vae=vae,
        text_encoder=text_encoder,
        unet=unet,
        ema=ema,
        prediction_type=prediction_type,
        config=config,
        safety_checker=safety_checker,
        tiny_vae=tiny_vae,
        solver=Solver(scheduler, timestep_spacing),
        few_steps=few_steps,
    )
    report = on_progress or (lambda stage, share: None)
    with folder.publishing(request.output, overwrite) as target, architecture.quiet():
        _fill(target, request, report)
    return request.output


def shares(report: Progress, first: float) -> tuple[Progress, Progress]:
    """The progress of two works as that of one; first: the first one's share of it."""
    return (
        lambda stage, share: report(stage, first * share),
        lambda stage, share: report(stage, first + (1 - first) * share),
    )


def _fill(target: Path, request: Request, report: Progress) -> None:
    """Write the folder `target`, unpublished, of what is asked."""
    checkpoint = open_checkpoint(
        request.source,
        request.revision,
        vae=request.vae,
        text_encoder=request.text_encoder,
        unet=request.unet,
        ema=request.ema,
        prediction_type=request.prediction_type,
        config=request.config,
        safety_checker=request.safety_checker,
    )
    report("reading the configs", 0.0)
    if isinstance(checkpoint, ControlNetFolder):
        if request.loras or request.solver != Solver() or request.few_steps:
            raise ExportError(
                f"{request.source} is a ControlNet, which takes no LoRA and has no scheduler; "
                "leave them out"
            )
        controlnet.export(checkpoint, request, target, report)
        return
    plan = Plan(checkpoint, request)
    folder.require_space(request.output, plan.bytes_needed())
    plan.write_configs(target)
    converting, quantizing = shares(report, _CONVERTING if request.few_steps else 1.0)
    measured = Conversion(plan, target, converting).run()
    converting("writing the manifest", 1.0)
    manifest.write(
        target,
        source=plan.record(),
        formats=request.formats,
        precision=request.precision,
        parity=measured,
        recommended=plan.recommended(),
    )
    if request.few_steps:
        quantize_model(target, request.formats, on_progress=quantizing)
        gc.collect()  # Windows renames no folder of which a file is mapped
