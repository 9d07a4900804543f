"""A way to paint with Pleinair, written as one word: a profile, and settings that override it.

exact
balanced,vae=tiny
fast,precision=f32
model=FOLDER,scheduler=lcm,num_inference_steps=4,guidance_scale=1
"""

import difflib
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pleinair.runtime.errors import SettingError
from pleinair.runtime.speed.profiles import DEFAULT, Profile

# What a measurement itself decides for all ways alike.
_FIXED = {"prompt", "seed", "num_images_per_prompt", "output_type"}


@dataclass(frozen=True)
class Way:
    """How a model is opened, and what its calls are given beside what is the same for all.

    name: as it was written. opened: arguments of `StableDiffusionPipeline.from_pretrained`, of
    which "model" is another folder. called: arguments of a call.
    """

    name: str
    opened: Mapping[str, Any]
    called: Mapping[str, Any]

    @classmethod
    def read(cls, text: str) -> "Way":
        """`text`: words between commas, a profile's name or NAME=VALUE, the value as in JSON.

        Without a word it is what is painted by default.

        Raises SettingError for a name that neither opening nor a call knows.
        """
        opens, calls = _known()
        opened: dict[str, Any] = {}
        called: dict[str, Any] = {}
        for word in text.split(",") if text else ():
            name, given, value = word.strip().partition("=")
            if not given:
                name, value = "profile", name
            if name in opens:
                opened[name] = _value(value)
            elif name in calls:
                called[name] = _value(value)
            else:
                near = difflib.get_close_matches(name, [*opens, *calls], 3)
                hint = f"; meant: {', '.join(near)}" if near else ""
                raise SettingError(f"{text!r}: {name!r} is no setting of a model or a call{hint}")
        return cls(text, opened, called)

    @property
    def computing(self) -> str:
        """What floating point computes in, as its profile or its own setting says."""
        profile = Profile.of(self.opened.get("profile", DEFAULT))
        return profile.computing(self.opened.get("precision"))

    def open(self, model: str, **options: Any) -> Any:
        """The pipeline of `model`, or of the way's own; its other settings win over `options`."""
        from pleinair.runtime import StableDiffusionPipeline

        arguments = {"model": model, **options, **self.opened}
        return StableDiffusionPipeline.from_pretrained(arguments.pop("model"), **arguments)


def _known() -> tuple[list[str], list[str]]:
    """Arguments of opening a model, and of a call."""
    from pleinair.runtime import StableDiffusionPipeline
    from pleinair.runtime.families import GROUPS
    from pleinair.runtime.options.option import declared

    opens = inspect.signature(StableDiffusionPipeline.from_pretrained).parameters
    calls = dict.fromkeys(name for group in GROUPS for name in declared(group))
    return list(opens), [name for name in calls if name not in _FIXED]


def _value(text: str) -> Any:
    if text.lower() in ("none", "true", "false"):
        return {"none": None, "true": True, "false": False}[text.lower()]
    try:
        return json.loads(text)
    except ValueError:
        return text
