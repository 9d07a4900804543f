"""Our schedulers by the names that other programs give their solvers and spacings of sigmas."""

import re

from .. import schedulers

# Our scheduler -> webui's sampler. Those that it does not have keep our name.
_WEBUI = {
    "ddim": "DDIM",
    "plms": "PLMS",
    "lms": "LMS",
    "euler": "Euler",
    "euler_a": "Euler a",
    "heun": "Heun",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "unipc": "UniPC",
    "deis": "DEIS",
    "lcm": "LCM",
    "tcd": "TCD",
}
_SPACINGS = {"_karras": " Karras", "_exponential": " Exponential"}

# What others say for one of ours, as `_plain` writes it: k-diffusion's and ComfyUI's functions,
# Easy Diffusion's, Draw Things' and stable-diffusion.cpp's words, the classes of diffusers.
_OTHERS = {
    "euler_ancestral": "euler_a",
    "uni_pc": "unipc",
    "unipc_bh2": "unipc",
    "uni_pc_bh2": "unipc",
    "dpm_solver_pp_2m": "dpmpp_2m",
    "dpmpp2m": "dpmpp_2m",
    "ddimscheduler": "ddim",
    "ddpmscheduler": "ddpm",
    "pndmscheduler": "pndm",
    "eulerdiscretescheduler": "euler",
    "eulerancestraldiscretescheduler": "euler_a",
    "heundiscretescheduler": "heun",
    "lmsdiscretescheduler": "lms",
    "lcmscheduler": "lcm",
    "tcdscheduler": "tcd",
    "dpmsolvermultistepscheduler": "dpmpp_2m",
    "dpmsolversinglestepscheduler": "dpmpp_2s",
    "unipcmultistepscheduler": "unipc",
    "deismultistepscheduler": "deis",
    "flowmatcheulerdiscretescheduler": "flow_euler",
}
# How sigmas are spaced where nothing is said; in DDIM's case by its own name.
_USUAL = {"", "automatic", "uniform", "normal", "default", "native", "discrete", "none"}
_ALSO_USUAL = {"ddim": {"ddim", "ddim_uniform"}}
# Spacings that stand at the end of a sampler's name; InvokeAI's k is Karras.
_ENDINGS = {
    "karras": "karras",
    "k": "karras",
    "exponential": "exponential",
    "trailing": "trailing",
    "ays": "ays",
}


def webui_name(scheduler: str | None) -> str | None:
    """webui's name for one of our schedulers; the same name where it has none."""
    if scheduler is None:
        return None
    name, spacing = scheduler, ""
    for suffix, shown in _SPACINGS.items():
        if scheduler.endswith(suffix):
            name, spacing = scheduler.removesuffix(suffix), shown
    return _WEBUI[name] + spacing if name in _WEBUI else scheduler


def ours(sampler: str, spacing: str = "") -> tuple[str | None, bool]:
    """The scheduler that a sampler stands for, None where we have none; whether its sigmas are
    spaced as that program says.
    """
    name, spacing = _plain(sampler), _plain(spacing)
    known = schedulers.names()
    for ending, meant in _ENDINGS.items():
        if name not in known and name.endswith(f"_{ending}") and spacing in {*_USUAL, meant}:
            name, spacing = name.removesuffix(f"_{ending}"), meant
    name = _OTHERS.get(name, name)
    if f"{name}_{spacing}" in known:
        return f"{name}_{spacing}", True
    if name not in known:
        return None, False
    # A name of ours that says its spacing may be followed by the same once more.
    usual = _USUAL | _ALSO_USUAL.get(name, set())
    return name, spacing in usual or name.endswith(f"_{spacing}")


def _plain(name: str) -> str:
    """`dpmpp_2m_sde` of "DPM++ 2M SDE", of `k_dpmpp_2m_sde` and of `dpmpp_2m_sde_gpu`."""
    words = re.sub(r"[^a-z0-9]+", "_", name[:100].lower().replace("++", "pp")).strip("_")
    return words.removeprefix("sample_").removeprefix("k_").removesuffix("_gpu")
