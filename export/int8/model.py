"""The quantization as a story: open the folder, paint to calibrate, quantize, measure, publish."""

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pleinair.runtime.errors import ExportError
from pleinair.runtime.families.family import Family
from pleinair.runtime.model.bundle import GRAPH_FILES, Bundle
from pleinair.runtime.speed.profiles import EIGHT_BIT

from . import post_training, prompts, publishing
from .plan import Clock, Plan, Progress, opened

SENSITIVITY = "int8-sensitivity.json"


def quantize_model(
    folder: str | Path,
    formats: Iterable[str] | None = None,
    parts: Iterable[str] | None = None,
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
    """Add the denoiser and the VAE's decoder in 8 bits to an exported folder, ours or optimum's.

    They stand beside the parts they are made of, as `unet_int8/` and `vae_decoder_int8/`. The
    folder's own pipeline paints a few pictures, and what its denoiser and decoder were asked is
    what the graphs are calibrated on. One more picture is held out: on it the new graphs are
    measured against the old ones. They appear in the folder when all are sound, or not at all.

    Args:
        folder: with graphs in OpenVINO's format, in ONNX, or in both.
        formats: "openvino", "onnx" or both; None is what the folder has.
        parts: the denoiser, as the folder names it ("unet"), "vae_decoder", or both; None is both.
        weights_only: 8 bits for weights alone, for processors without 8-bit arithmetic (VNNI).
        attention_stride: keys and values of the largest self-attentions come from every row and
            column of that number; 1 takes them all.
        attention_levels: at how many resolutions, from the largest down; None is one, where that
            has enough tokens to gain anything (see `attention.FEWEST_TOKENS`).
        samples: of the denoiser's inputs, for calibration.
        steps: of each picture painted for it.
        size: of those pictures, in pixels a side; None is what the model was made for.
        calibration_prompts: painted in turn.
        keep: groups of layers that stay in floating point, beside `layers.always_kept`; as
            `measure_sensitivity` names them.
        overwrite: replace int8 graphs of these formats that are there.
        on_progress: called with what is being done and the share done, from 0 to 1.

    Returns the folder. Raises BundleError for what is no exported model, and ExportError where
    int8 graphs are there already, NNCF is missing or fails, or a graph is too far off.
    """
    family = opened(folder)
    bundle = family.bundle
    plan = Plan(
        family,
        _formats(formats, bundle),
        _parts(parts, family),
        Clock(on_progress or _silent),
        weights_only=weights_only,
        attention_stride=attention_stride,
        attention_levels=attention_levels,
        samples=samples,
        steps=steps,
        size=size,
        prompts=prompts.checked(calibration_prompts),
        keep=tuple(keep),
    )
    post_training.load()
    names = [EIGHT_BIT.format(part) for part in plan.parts]
    with publishing.publishing(bundle, names, plan.formats, overwrite) as staging:
        trajectories = plan.paint()
        facts = {}
        for part, name in zip(plan.parts, names, strict=True):
            config = bundle.path / part / "config.json"
            if config.is_file():
                shutil.copyfile(config, staging / name / "config.json")
            facts[part] = {
                form: plan.quantize(part, form, trajectories, staging / name)
                for form in plan.formats
            }
        plan.clock.says("writing the manifest")
        publishing.publish(bundle, staging, names, facts)
    plan.clock.report("done", 1.0)
    return Path(bundle.path)


def measure_sensitivity(
    folder: str | Path,
    formats: Iterable[str] | None = None,
    parts: Iterable[str] | None = None,
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
    family = opened(folder)
    bundle = family.bundle
    plan = Plan(
        family,
        _formats(formats, bundle),
        _parts(parts, family),
        Clock(on_progress or _silent),
        attention_stride=attention_stride,
        attention_levels=attention_levels,
        steps=steps,
        size=size,
        prompts=prompts.checked(calibration_prompts),
    )
    post_training.load()
    report = bundle.path / SENSITIVITY
    if report.exists() and not overwrite:
        raise ExportError(f"{report} exists; move it away, or add --overwrite")
    plan.expect_groups()
    with publishing.staging(bundle) as aside:
        trajectories = plan.paint()
        measured = {part: plan.sensitivity(part, trajectories, aside) for part in plan.parts}
    found = {"settings": plan.settings(), "parts": measured}
    publishing.write_whole(report, json.dumps(found, indent=2) + "\n")
    plan.clock.report("done", 1.0)
    return measured


def _silent(stage: str, share: float) -> None:
    """Nobody asked for progress."""


def _formats(wanted: Iterable[str] | None, bundle: Bundle) -> list[str]:
    return list(bundle.graphs) if wanted is None else _chosen("formats", wanted, tuple(GRAPH_FILES))


def _parts(wanted: Iterable[str] | None, family: Family) -> list[str]:
    known = (family.denoiser, "vae_decoder")
    return list(known) if wanted is None else _chosen("parts", wanted, known)


def _chosen(what: str, wanted: Iterable[str], known: Sequence[str]) -> list[str]:
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ExportError(f"{what} are {' and '.join(known)}, not {', '.join(unknown) or 'none'}")
    return [name for name in known if name in names]
