"""How a single file's model was trained, which no tensor's shape tells.

Tensors that serve as marks say it, the metadata of a safetensors file (ModelSpec's, and kohya's
`ss_`), a `.yaml` or `.json` beside the file (`sidecar`), and for models of few steps the name.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pleinair.runtime import schedulers
from pleinair.runtime.errors import SchedulerError, SourceError, shown
from pleinair.runtime.schedulers.trained import TrainedScheduler

from .architecture import Config
from .reading import State

_log = logging.getLogger("pleinair.export")

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
_SPELLINGS = {"v": "v_prediction", "eps": "epsilon", "x0": "sample"}
# Stable Diffusion 2's first base model says its step of training; those at 768 pixels say others.
_BASE_STEP = 875_000
# Playground v2.5, whose VAE's latents are brought to this deviation.
_EDM_SCALING = 0.5
_FEW = re.compile(
    r"(?<![a-z])(turbo|lightning|hyper(?:sdxl?)?|dmd2?|lcm)(?![a-z])", re.IGNORECASE | re.ASCII
)
_STEPS = re.compile(r"(?<!\d)(\d{1,2})[ _-]?steps?(?![a-z])", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Training:
    """What is said of a training; None where nothing is.

    zero_snr: the last timestep was noise alone.
    betas: the noise schedule's first and last. trained_betas: all of them.
    edm: sigma_min, sigma_max and sigma_data of a model trained on EDM's noise.
    latents: the mean and deviation that the VAE's latents are brought to, by channel.
    heads: of each attention of the UNet; head_width: how wide each is, where that is said.
    penultimate: the UNet was shown the text encoder's last layer but one.
    few: the word of the name that says how it was distilled to a few steps. steps: how many.
    size: of a picture's side, in pixels.
    """

    prediction_type: str | None = None
    zero_snr: bool | None = None
    betas: tuple[float, float] | None = None
    trained_betas: tuple[float, ...] | None = None
    timesteps: int | None = None
    edm: tuple[float, float, float] | None = None
    latents: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    scaling_factor: float | None = None
    heads: int | None = None
    head_width: int | None = None
    penultimate: bool | None = None
    few: str | None = None
    steps: int | None = None
    size: int | None = None

    def over(self, other: "Training", where: Path, what: str) -> "Training":
        """This, with what the `other` says beside it; a line where the two say different things.

        what: where the other is from, for that line.
        """
        stated = {f.name: getattr(other, f.name) for f in fields(other)}
        for name, value in stated.items():
            if value not in (None, getattr(self, name)) and getattr(self, name) is not None:
                _log.info(
                    "%s: %s says %s %s, and is not followed: %s is what it is by other marks",
                    where,
                    what,
                    name,
                    shown(value),
                    shown(getattr(self, name)),
                )
        return replace(self, **{k: v for k, v in stated.items() if getattr(self, k) is None})


def by_marks(state: State, said: Mapping[str, Any], where: Path) -> Training:
    """What tensors say that are no weights; they are taken out of `state`.

    `v_pred` and `ztsnr` as the web interfaces have them, `edm_mean` and `edm_std` of Playground
    v2.5, `edm_vpred.sigma_max` of CosXL, and CompVis's `scale_factor`. Raises `SourceError` for
    values that make no sense.
    """
    v_pred, zero_snr = state.pop("v_pred", None), state.pop("ztsnr", None)
    prediction = None if v_pred is None else "v_prediction"
    training = Training(prediction, None if zero_snr is None else True)
    if said.get("global_step") == _BASE_STEP:
        training = replace(training, prediction_type=prediction or "epsilon")
    if "scale_factor" in state and state["scale_factor"].numel() == 1:
        (factor,) = _numbers(state.pop("scale_factor"), "scale_factor", where, above=1e-4)
        training = replace(training, scaling_factor=factor)
    if {"edm_mean", "edm_std"} & state.keys():
        return replace(training, **_normed(state, where))
    if "edm_vpred.sigma_max" in state:
        marks = ("edm_vpred.sigma_min", "edm_vpred.sigma_max")
        low, high = (
            _numbers(state.pop(name), name, where, above=0.0)[0] if name in state else 0.002
            for name in marks
        )
        return replace(training, prediction_type="v_prediction", edm=(low, high, 1.0))
    state.pop("edm_vpred.sigma_min", None)
    return training


def _normed(state: State, where: Path) -> dict[str, Any]:
    """Of Playground v2.5: EDM's noise, and latents with a mean and a deviation by channel."""
    for name in ("edm_mean", "edm_std"):
        if name not in state:
            raise SourceError(f"{where}: has one of edm_mean and edm_std and lacks {name}")
    mean = _numbers(state.pop("edm_mean"), "edm_mean", where)
    std = _numbers(state.pop("edm_std"), "edm_std", where, above=0.0)
    return {
        "prediction_type": "epsilon",
        "latents": (mean, std),
        "scaling_factor": _EDM_SCALING,
        "edm": (0.002, 80.0, 0.5),
    }


def _numbers(
    value: torch.Tensor, name: str, where: Path, above: float | None = None
) -> tuple[float, ...]:
    values = tuple(value.float().flatten()[:1025].tolist())
    if not values or not np.isfinite(values).all() or max(map(abs, values)) > 1e6:
        raise SourceError(f"{where}: {name} has to hold numbers; get the file anew")
    if above is not None and min(values) <= above:
        raise SourceError(f"{where}: {name} has to be more than {above:g}; get the file anew")
    return values


def by_schedule(state: State, config: Config, where: Path) -> Training:
    """What a file's own table of noise says, `alphas_cumprod`, where its kind has another.

    config: the scheduler_config.json of its kind. A table that does not fall is none.
    """
    table = state.get("alphas_cumprod")
    if table is None or table.ndim != 1 or not 10 <= len(table) <= 10_000:
        return Training()
    found = table.double().numpy()
    if not (np.isfinite(found).all() and 0 < found[0] < 1 and np.all(np.diff(found) <= 0)):
        return Training()
    for zero_snr in (False, True):
        options = {"rescale_betas_zero_snr": zero_snr}
        try:
            kind = schedulers.from_config(config, "ddim", **options)
        except SchedulerError:  # not by betas
            return Training()
        assert isinstance(kind, TrainedScheduler)
        known = kind.alphas_cumprod
        if len(known) == len(found) and np.abs(known - found).max() < 2e-3:
            return Training(zero_snr=zero_snr or None)
    if found[-1] <= 0 or np.any(np.diff(found) == 0) or table.element_size() < 4:
        raise SourceError(
            f"{where}: its table of noise (alphas_cumprod) is not that of its kind, and ends "
            "without signal or is too coarse to be followed; get the file in float32"
        )
    betas = 1 - found / np.concatenate([[1.0], found[:-1]])
    _log.info("%s: has a noise schedule of its own (alphas_cumprod), which is followed", where)
    return Training(trained_betas=tuple(float(f"{beta:.7g}") for beta in betas))


def by_metadata(said: Mapping[str, Any], where: Path) -> Training:
    """What ModelSpec [github.com/Stability-AI/ModelSpec] and kohya's scripts write.

    Raises `SourceError` for a prediction type that is not known.
    """
    stated = said.get("modelspec.prediction_type")
    architecture = str(said.get("modelspec.architecture", ""))
    prediction = None
    if stated not in (None, ""):
        prediction = prediction_type(stated, f"{where}: modelspec.prediction_type")
    elif architecture.startswith("stable-diffusion-v2-768-v") or _true(said, "v_parameterization"):
        prediction = "v_prediction"
    elif architecture.startswith("stable-diffusion-v2-512"):
        prediction = "epsilon"
    elif str(said.get("ss_base_model_version", "")).endswith("_v"):
        prediction = "v_prediction"
    _tell_of_layer(said, architecture, where)
    few = _few(str(said.get("modelspec.title", "")))
    zero_snr = _true(said, "zero_terminal_snr") or None
    return replace(few, prediction_type=prediction, zero_snr=zero_snr, size=_size(said))


def prediction_type(stated: object, where: str) -> str:
    """diffusers' word for a prediction type; raises `SourceError` for others."""
    found = _SPELLINGS.get(str(stated), str(stated))
    if found not in PREDICTION_TYPES:
        raise SourceError(
            f"{where} is {shown(stated)}; epsilon, v_prediction and sample can be painted with: "
            "add --prediction-type TYPE where you know better"
        )
    return found


def _true(said: Mapping[str, Any], name: str) -> bool:
    return str(said.get(f"ss_{name}", "")).lower() in ("true", "1")


def _tell_of_layer(said: Mapping[str, Any], architecture: str, where: Path) -> None:
    """Many models of version 1 are to be painted with by an earlier layer of CLIP."""
    layer = str(said.get("modelspec.encoder_layer") or said.get("ss_clip_skip") or "")
    version = str(said.get("ss_base_model_version", ""))
    is_first = architecture.startswith("stable-diffusion-v1") or version.startswith("sd_v1")
    if is_first and layer.isdecimal() and 1 < int(layer) < 12:
        _log.info(
            "%s was trained on an earlier layer of its text encoder: paint with --clip-skip %d",
            where,
            int(layer) - 1,
        )


def _size(said: Mapping[str, Any]) -> int | None:
    """The side of a square as large as ModelSpec's resolution."""
    found = re.fullmatch(r"(\d{2,4})x(\d{2,4})", str(said.get("modelspec.resolution", "")))
    return round((int(found[1]) * int(found[2])) ** 0.5 / 64) * 64 or None if found else None


def by_name(stem: str, where: Path) -> Training:
    """What the name of a file says of a model that was distilled to a few steps."""
    few = _few(stem)
    if few.few:
        _log.info(
            "%s: by its name a model of few steps (%s): its steps begin at the noisy end "
            "(trailing); where that is wrong add --timestep-spacing leading",
            where,
            few.few,
        )
    return few


def _few(name: str) -> Training:
    word = _FEW.search(name)
    if word is None:
        return Training()
    steps = _STEPS.search(name)
    # SDXL-Lightning's model of one step gives the picture itself.
    sample = re.search(r"(?<![a-z0-9])x0(?![a-z0-9])", name, re.IGNORECASE)
    return Training(
        prediction_type="sample" if sample else None,
        few=word[1].lower(),
        steps=int(steps[1]) or None if steps else None,
    )


def scheduler(training: Training, config: Config, prediction: str, where: Path) -> Config:
    """The scheduler_config.json of a model so trained, from that of its kind.

    Raises `SourceError` where what is said cannot be solved.
    """
    if training.edm is not None:
        names = ("sigma_min", "sigma_max", "sigma_data")
        edm = dict(zip(names, training.edm, strict=True)) | {"prediction_type": prediction}
        if training.latents is None:  # as diffusers paints with CosXL, and with Playground v2.5
            return edm | {"_class_name": "EDMEulerScheduler", "sigma_schedule": "exponential"}
        return edm | {"_class_name": "EDMDPMSolverMultistepScheduler", "sigma_schedule": "karras"}
    config = config | {"prediction_type": prediction}
    if training.timesteps is not None:
        config |= {"num_train_timesteps": training.timesteps}
    if training.betas is not None:
        config |= dict(zip(("beta_start", "beta_end"), training.betas, strict=True))
    if training.trained_betas is not None:
        config |= {"trained_betas": list(training.trained_betas)}
    if training.zero_snr:
        if prediction == "epsilon":
            raise SourceError(
                f"{where} says zero terminal SNR and that it predicts noise, of which nothing can "
                "be made where there is noise alone; add --prediction-type v_prediction"
            )
        # Only so is the first step noise alone [Lin et al. 2023, table 2].
        config |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    if training.few == "lcm":
        return config | {"_class_name": "LCMScheduler", "original_inference_steps": 50}
    if training.few is not None:
        config |= {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"}
    return config
