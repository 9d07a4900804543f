"""From a diffusers scheduler_config.json, or a short name, to a solver."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import Message, SchedulerError, did_you_mean, shown
from ..files import read_json
from .ddim import DDIM
from .ddpm import DDPM
from .deis import DEIS
from .dpm_multistep import DPMMultistep
from .dpm_singlestep import DPMSinglestep
from .edm import EdmScheduler
from .edm_dpm_multistep import EdmDPMMultistep
from .edm_euler import EdmEuler
from .euler import Euler
from .euler_ancestral import EulerAncestral
from .flow_match_euler import FlowMatchEuler
from .heun import Heun
from .lcm import LCM
from .lms import LMS
from .options import checked, options_of
from .pndm import PNDM
from .scheduler import Scheduler
from .tcd import TCD
from .trained import TrainedScheduler
from .unipc import UniPC

SOLVERS: Mapping[str, type[Scheduler]] = {
    "DDIMScheduler": DDIM,
    "DDPMScheduler": DDPM,
    "DEISMultistepScheduler": DEIS,
    "DPMSolverMultistepScheduler": DPMMultistep,
    "DPMSolverSinglestepScheduler": DPMSinglestep,
    "EDMDPMSolverMultistepScheduler": EdmDPMMultistep,
    "EDMEulerScheduler": EdmEuler,
    "EulerAncestralDiscreteScheduler": EulerAncestral,
    "EulerDiscreteScheduler": Euler,
    "FlowMatchEulerDiscreteScheduler": FlowMatchEuler,
    "HeunDiscreteScheduler": Heun,
    "LCMScheduler": LCM,
    "LMSDiscreteScheduler": LMS,
    "PNDMScheduler": PNDM,
    "TCDScheduler": TCD,
    "UniPCMultistepScheduler": UniPC,
}

# What a name stands for. It settles the options given here, whatever the model's file says.
PLAIN: Mapping[str, tuple[type[Scheduler], Mapping[str, Any]]] = {
    "ddim": (DDIM, {}),
    "ddpm": (DDPM, {}),
    "plms": (PNDM, {"skip_prk_steps": True}),
    "pndm": (PNDM, {}),
    "euler_a": (EulerAncestral, {}),
    "lcm": (LCM, {}),
    "tcd": (TCD, {}),
    "flow_euler": (FlowMatchEuler, {}),
    "edm_euler": (EdmEuler, {}),
    "edm_dpmpp_2m": (EdmDPMMultistep, {"algorithm_type": "dpmsolver++", "solver_order": 2}),
}
SPACED: Mapping[str, tuple[type[Scheduler], Mapping[str, Any]]] = {
    "lms": (LMS, {}),
    "euler": (Euler, {}),
    "heun": (Heun, {}),
    "dpmpp_2m": (DPMMultistep, {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "dpmpp_2m_sde": (DPMMultistep, {"algorithm_type": "sde-dpmsolver++", "solver_order": 2}),
    "dpmpp_2s": (DPMSinglestep, {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "unipc": (UniPC, {}),
    "deis": (DEIS, {}),
}
LADDERS = {"": (False, False), "_karras": (True, False), "_exponential": (False, True)}
NAMED = dict(PLAIN)
for _name, (_class, _options) in SPACED.items():
    for _suffix, (_karras, _exponential) in LADDERS.items():
        _spacing = {"use_karras_sigmas": _karras, "use_exponential_sigmas": _exponential}
        NAMED[_name + _suffix] = (_class, {**_options, **_spacing})


# Options of diffusers' that act on nothing that is done here: with `thresholding` and flow sigmas,
# which are refused, or in solvers whose files may serve for ours.
_OF_OTHERS = {
    "dynamic_thresholding_ratio",
    "flow_shift",
    "noise_sampler_seed",
    "num_inference_steps",
    "rho",
    "s_churn",
    "s_max",
    "s_min",
    "s_noise",
    "sample_max_value",
    "sigma_data",
    "sigma_schedule",
    "snr_shift_scale",
}
# Of early versions of diffusers.
_EARLY = {"predict_epsilon", "tensor_format", "timestep_values", "timesteps"}


def names(config: Mapping[str, Any] | None = None) -> list[str]:
    """The short names that `from_config` takes, in alphabetical order; with `config` those for it.

    `plms` is PNDM as Stable Diffusion uses it, without the Runge-Kutta start; `pndm` leaves that
    to the model's file. `euler_a` is ancestral, `_sde` adds noise in every step; `_karras` and
    `_exponential` space the sigmas anew. `flow_euler` is for models trained by flow matching,
    `edm_` for those trained as Karras et al. 2022; all others are for models trained by betas.
    """
    class_name = (config or {}).get("_class_name")
    return sorted(name for name, (solver, _) in NAMED.items() if _fits(solver, class_name))


def from_config(
    config: Mapping[str, Any] | str | os.PathLike[str], name: str | None = None, **overrides: Any
) -> Scheduler:
    """A solver for the model that `config` belongs to.

    `config` is the content of a diffusers scheduler_config.json or the path of one. The file names
    its solver in `_class_name`; `name`, one of `names()`, asks for another on the same training
    noise, whose kind has to be the one it solves: by betas, by flow matching or EDM. `overrides`
    are options by diffusers' names (and `eta` for DDIM and TCD) and win over both.

    As in diffusers, an option in the file that the solver does not have is passed over, so that
    a model's file serves all solvers. An override the solver does not have is an error, and so is
    an option that diffusers would heed and Pleinair does not do.

    Raises SchedulerError: no such file, not JSON, unknown class, name or option, a name of the
    other kind of training noise, a value that makes no sense.
    """
    if not isinstance(config, Mapping):
        config = read_json(Path(config), error=SchedulerError)
    settings = dict(config)
    solver, named = _solver(settings, name)
    # diffusers lists here what a live configuration has only by its class's defaults.
    for default in _names_of_defaults(settings):
        settings.pop(default, None)
    if settings.get("predict_epsilon") is False and "prediction_type" not in settings:
        raise SchedulerError(
            "scheduler option predict_epsilon is false: say prediction_type sample instead"
        )
    for option in overrides:
        if option not in options_of(solver) and option not in solver.refuses:
            raise SchedulerError(f"scheduler {name or solver.__name__} has no option {option!r}")
    return solver(**checked(solver, {**settings, **named, **overrides}))


def _solver(
    settings: Mapping[str, Any], name: str | None
) -> tuple[type[Scheduler], Mapping[str, Any]]:
    """The class that is asked for, and the options that its name settles."""
    class_name, near = settings.get("_class_name"), ""
    if name is None:
        if isinstance(class_name, str) and class_name in SOLVERS:
            return SOLVERS[class_name], {}
        problem = Message(
            "the scheduler configuration has the class {0}, unknown here", shown(class_name)
        )
    elif name not in NAMED:
        problem = Message("{scheduler} {0!r} is unknown", shown(name))
        near = did_you_mean(str(name), NAMED)
    elif not _fits(NAMED[name][0], class_name):
        problem = Message(
            "{scheduler} {0} is for models trained on other noise than {1} solves",
            name,
            shown(class_name),
        )
    else:
        return NAMED[name]
    known = ", ".join(names(settings))
    raise SchedulerError(Message("{0}: choose one of {1}{2}", problem, known, near))


_NOISES: Mapping[str, Any] = {"FlowMatch": FlowMatchEuler, "EDM": EdmScheduler}
"""How the names of diffusers' classes begin that are for other noise than by betas."""


def _fits(solver: type[Scheduler], class_name: object) -> bool:
    """Whether a model that came with this class of diffusers has the noise that `solver` knows."""
    begins = (kind for start, kind in _NOISES.items() if str(class_name).startswith(start))
    return class_name is None or issubclass(solver, next(begins, TrainedScheduler))


def spaced(config: Mapping[str, Any], timestep_spacing: str | None) -> dict[str, Any]:
    """A scheduler_config.json with another spacing of the timesteps; None leaves its own."""
    if timestep_spacing is None:
        return dict(config)
    assumed = [name for name in _names_of_defaults(config) if name != "timestep_spacing"]
    changed = {**config, "timestep_spacing": timestep_spacing}
    if "_use_default_values" in config:
        changed["_use_default_values"] = assumed
    return changed


def unknown(config: Mapping[str, Any]) -> list[str]:
    """Options in a configuration that no solver has, here or in diffusers: misspelt, or newer."""
    known = {*_OF_OTHERS, *_EARLY}
    for solver in SOLVERS.values():
        known |= {*options_of(solver), *solver.refuses}
    return sorted(name for name in config if name not in known and not name.startswith("_"))


def _names_of_defaults(settings: Mapping[str, Any]) -> list[str]:
    names = settings.get("_use_default_values") or []
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise SchedulerError(
            f"scheduler option _use_default_values is {shown(names)}: it has to be a list of names"
        )
    return list(names)
