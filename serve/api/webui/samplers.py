"""Samplers by webui's names: it calls a solver and the spacing of its sigmas apart."""

from collections.abc import Mapping
from typing import Any

from pleinair.runtime import schedulers
from pleinair.runtime.errors import did_you_mean, shown
from pleinair.runtime.record import samplers

from ...errors import Unknown

SPACINGS = {"automatic": "Automatic", "karras": "Karras", "exponential": "Exponential"}
"""Of sigmas: webui's schedulers, and what its page calls them."""

# What webui takes for a sampler where nobody names another.
_AUTOMATIC = {"dpmpp_2m": "karras", "dpmpp_2m_sde": "exponential"}
_UNSAID = {"", "automatic"}
# webui's samplers are for any training noise; ours of models trained otherwise have other names.
_NOISES = ("", "flow_", "edm_")

Config = Mapping[str, Any]
"""The content of a model's scheduler_config.json."""


def listed(config: Config) -> list[dict[str, Any]]:
    """What can paint with a model, as webui lists it."""
    endings = tuple(f"_{spacing}" for spacing in SPACINGS)
    return [
        {"name": shown_name(name), "aliases": [name], "options": _options(name)}
        for name in schedulers.names(config)
        if not name.endswith(endings)
    ]


def shown_name(name: str) -> str:
    """webui's name for one of our schedulers; ours where it has none."""
    for noise in _NOISES[1:]:
        name = name.removeprefix(noise)
    return samplers.webui_name(name) or name


def found(config: Config, sampler: str, spacing: str) -> tuple[str, bool]:
    """Our scheduler for a model; whether its sigmas are spaced as asked.

    spacing: "" and "automatic" take webui's usual one.
    Raises Unknown for a sampler that is not here, or not for models of that kind.
    """
    known = schedulers.names(config)
    automatic = spacing.lower() in _UNSAID
    if sampler in known and automatic:
        return sampler, True  # one of our own names says all
    name, spaced = samplers.ours(sampler, spacing)
    names = [name] if name else []
    if name in _AUTOMATIC and automatic:
        names.insert(0, f"{name}_{_AUTOMATIC[name]}")
    for one in (noise + name for name in names for noise in _NOISES):
        if one in known:
            return one, spaced
    here = [one["name"] for one in listed(config)]
    raise Unknown(
        f"Sampler not found: there is no {shown(sampler)!r} for this model"
        f"{did_you_mean(sampler, here)}; there are: {', '.join(here)}",
        param="sampler_name",
    )


def _options(name: str) -> dict[str, str]:
    return {"scheduler": _AUTOMATIC[name]} if name in _AUTOMATIC else {}
