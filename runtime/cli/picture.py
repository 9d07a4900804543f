"""The pictures that a command line, or a line of a prompt file, asks for."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import SettingError, shown
from ..options.groups import DEFAULT_PROMPT
from ..request import seeds_of
from ..text import styles
from ..text.wildcards import drawn
from .adapters import Weighed, named_in
from .arguments import CALL, given, pictures

_MOST = 10_000
"""Pictures of one prompt: each is planned before the first is painted."""


@dataclass(frozen=True)
class Picture:
    """A picture to paint.

    settings: the call's arguments, those aside that name files.
    noise_seed: the seed of its start noise, where another.
    loras: the files that its prompt names.
    line: of a prompt file; 0 is the command line itself.
    profile, precision: of the pipeline that paints it; None is the model's, or the profile's.
    """

    settings: Mapping[str, Any]
    noise_seed: int | None = None
    loras: Weighed = ()
    line: int = 0
    profile: str | None = None
    precision: str | None = None

    @classmethod
    def of(
        cls,
        settings: Mapping[str, Any],
        options: argparse.Namespace,
        noise_seed: int | None = None,
        line: int = 0,
    ) -> "Picture":
        """With the prompts in their styles, and what is to be drawn in them drawn by its seed."""
        prompt, negative = styles.apply(
            options.style or (), settings["prompt"], settings.get("negative_prompt", "")
        )
        if options.wildcards:
            prompt, negative = drawn([prompt, negative], options.wildcards, settings["seed"])
        loras: Weighed = ()
        if settings.get("syntax") != "plain":
            prompt, loras = named_in(prompt, options.lora_dir)
        words = {"prompt": prompt, **({"negative_prompt": negative} if negative else {})}
        call = {**settings, **words}
        profile, precision = call.pop("profile", None), call.pop("precision", None)
        return cls(call, noise_seed, loras, line, profile, precision)

    def call(self, options: argparse.Namespace) -> dict[str, Any]:
        """The arguments of the pipeline's call."""
        around = {"noise_seed": self.noise_seed, "safety": options.safety}
        return {**self.settings, **pictures(options), **around}


def pictures_of(options: argparse.Namespace, seed: int, line: int = 0) -> list[Picture]:
    """The prompt from each of its seeds: its own, or `seed` and those after it."""
    settings = {"prompt": DEFAULT_PROMPT, "seed": seed, **given(options, CALL)}
    strength = settings.get("variation_strength", 0.0)
    other = settings.get("variation_seed")
    seeds = seeds_of(
        settings["seed"],
        variation_seed=other,
        variation_strength=strength,
        count=how_many(options),
    )
    noise_seed = seeds[0][0] if options.fixed_code else options.noise_seed
    pictures = []
    for one, variation in seeds:
        numbers = {"seed": one, **({"variation_seed": variation.seed} if variation else {})}
        pictures.append(Picture.of({**settings, **numbers}, options, noise_seed, line))
    return pictures


def how_many(options: argparse.Namespace) -> int:
    """How many pictures a prompt gets."""
    for name in ("n_samples", "n_iter"):
        if getattr(options, name) < 1:
            raise SettingError(f"--{name} is {getattr(options, name)}; give 1 or more")
    count: int = options.n_samples * options.n_iter
    if count > _MOST:
        raise SettingError(f"{shown(count)} pictures of one prompt; give at most {_MOST:,} at once")
    return count
