"""What lies beside a single file: a `.yaml` in the form of CompVis's configs, or a `.json`."""

import logging
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from pleinair.runtime.errors import SourceError, shown
from pleinair.runtime.files import conform, read_json

from .training import Training, prediction_type

_log = logging.getLogger("pleinair.export")

_LARGEST = 1 << 20
_HINT = "mend it, or move it away"
# denoiser_scaling of generative-models -> the prediction type, and whether the noise is EDM's.
_SCALINGS = {
    "EpsScaling": ("epsilon", False),
    "VScaling": ("v_prediction", False),
    "VScalingWithEDMcNoise": ("v_prediction", True),
}

_Beta: TypeAlias = Annotated[float, Meta(gt=0, lt=1)]
_Count: TypeAlias = Annotated[int, Meta(ge=1, le=65_536)]


class _UNet(msgspec.Struct):
    """Of a UNet's parameters those that no shape tells, and two that show whose they are."""

    in_channels: _Count | None = None
    context_dim: _Count | list[_Count] | None = None
    num_heads: int | None = None
    num_head_channels: int | None = None


class _UNetPart(msgspec.Struct):
    params: _UNet = msgspec.field(default_factory=_UNet)


class _TextEncoder(msgspec.Struct):
    layer: str | None = None


class _TextPart(msgspec.Struct):
    params: _TextEncoder = msgspec.field(default_factory=_TextEncoder)


class _Scaling(msgspec.Struct):
    target: str = ""


class _Denoiser(msgspec.Struct):
    scaling_config: _Scaling = msgspec.field(default_factory=_Scaling)


class _DenoiserPart(msgspec.Struct):
    params: _Denoiser = msgspec.field(default_factory=_Denoiser)


class _Params(msgspec.Struct):
    """`image_size` is not among them: CompVis's programs do not read it."""

    linear_start: _Beta | None = None
    linear_end: _Beta | None = None
    beta_schedule: str | None = None
    timesteps: Annotated[int, Meta(ge=2, le=100_000)] | None = None
    parameterization: str | None = None
    scale_factor: Annotated[float, Meta(ge=1e-4, le=1e4)] | None = None
    rescale_betas_zero_snr: bool | None = None
    zero_terminal_snr: bool | None = None
    zero_snr: bool | None = None
    unet_config: _UNetPart | None = None
    network_config: _UNetPart | None = None
    cond_stage_config: _TextPart | str | None = None
    denoiser_config: _DenoiserPart | None = None


class _Model(msgspec.Struct):
    params: _Params = msgspec.field(default_factory=_Params)


class _Config(msgspec.Struct):
    model: _Model


class _Notes(msgspec.Struct):
    """A `.json`: kohya's settings of a training, or what the web interfaces keep of a model."""

    prediction_type: str | None = None
    v_parameterization: bool | None = None
    zero_terminal_snr: bool | None = None
    vae: str | None = None


def read(file: Path, unet: dict[str, Any], config: Path | None = None) -> Training:
    """What the `.yaml` and the `.json` of the same stem say; nothing where there are none.

    unet: the UNet's config, by which a config of another model is told.
    config: the `.yaml`, where it lies elsewhere.
    Raises `SourceError` where one cannot be read, or says what cannot be.
    """
    training = Training()
    if config is not None and not config.is_file():
        raise SourceError(f"{config}: no such file; give the path of the checkpoint's config")
    for beside in [config] if config else [file.with_suffix(end) for end in (".yaml", ".yml")]:
        if beside.is_file():
            content = _yaml(beside)
            training = training.over(_trained(content, beside, unet), file, beside.name)
    beside = file.with_suffix(".json")
    if beside.is_file():
        content = read_json(beside, error=SourceError)
        found = _trained(content, beside, unet) if "model" in content else _noted(content, beside)
        training = training.over(found, file, beside.name)
    return training


def _yaml(path: Path) -> Any:
    import yaml  # huggingface_hub and transformers bring it

    if path.stat().st_size > _LARGEST:
        raise SourceError(f"{path} is too large for a config; {_HINT}")
    try:
        return yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = shown(str(error), 200)
        raise SourceError(f"{path} is no readable YAML ({reason}); {_HINT}") from error


def _trained(content: Any, path: Path, unet: dict[str, Any]) -> Training:
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        _log.info("%s says nothing of a model (it has no `model:`), and is not followed", path)
        return Training()
    params = conform(content, _Config, path, _HINT, error=SourceError).model.params
    part = params.unet_config or params.network_config
    stated = part.params if part else _UNet()
    width = stated.context_dim
    if stated.in_channels not in (None, unet["in_channels"]) or (
        isinstance(width, int) and width != unet["cross_attention_dim"]
    ):
        _log.info("%s is of a model of another shape, and is not followed", path)
        return Training()
    if params.beta_schedule not in (None, "linear"):  # CompVis's word for scaled_linear
        raise SourceError(f"{path}: the beta_schedule {shown(params.beta_schedule)} is not known")
    betas = params.linear_start, params.linear_end
    if (betas[0] is None) != (betas[1] is None):
        raise SourceError(f"{path}: says one of linear_start and linear_end; {_HINT}")
    text = params.cond_stage_config
    layer = text.params.layer if isinstance(text, _TextPart) else None
    scaling, edm = _scaling(params, path)
    if params.parameterization is not None:
        scaling = prediction_type(params.parameterization, f"{path}: parameterization")
    flags = (params.rescale_betas_zero_snr, params.zero_terminal_snr, params.zero_snr)
    return Training(
        prediction_type=scaling,
        zero_snr=any(flags) or None,
        betas=None if betas[0] is None or betas[1] is None else (betas[0], betas[1]),
        timesteps=params.timesteps,
        edm=(0.002, 120.0, 1.0) if edm else None,
        scaling_factor=params.scale_factor,
        heads=_counted(stated.num_heads),
        head_width=_counted(stated.num_head_channels),
        penultimate={"penultimate": True, "last": False}.get(layer or ""),
    )


def _counted(number: int | None) -> int | None:
    """CompVis writes -1 where the other one counts."""
    return number if number and number > 0 else None


def _scaling(params: _Params, path: Path) -> tuple[str | None, bool]:
    """Of generative-models' configs: the prediction type, and whether the noise is EDM's."""
    config = params.denoiser_config
    name = config.params.scaling_config.target.rpartition(".")[2] if config else ""
    if name and name not in _SCALINGS:
        raise SourceError(
            f"{path}: the denoiser scaling {shown(name)} is not known; {', '.join(_SCALINGS)} are"
        )
    return _SCALINGS.get(name, (None, False))


def _noted(content: dict[str, Any], path: Path) -> Training:
    notes = conform(content, _Notes, path, _HINT, error=SourceError)
    if notes.vae not in (None, "", "None", "Automatic"):
        _log.info(
            "%s asks for the VAE %s; add it with --vae FILE where you have it",
            path,
            shown(notes.vae),
        )
    prediction = None
    if notes.prediction_type:
        prediction = prediction_type(notes.prediction_type, f"{path}: prediction_type")
    elif notes.v_parameterization:
        prediction = "v_prediction"
    return Training(prediction, notes.zero_terminal_snr or None)
