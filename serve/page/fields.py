"""The fields of the page's form, made of the options that the runtime declares."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from pleinair.runtime.families import FAMILIES, GROUPS
from pleinair.runtime.options.groups import DEFAULT_PROMPT
from pleinair.runtime.options.option import Option, declared

_KINDS = {int: "integer", float: "number", bool: "truth"}
_LABELS = {"num_inference_steps": "Steps", "scheduler": "Sampler"}
"""Labels that are the usual words for an option, where its name in a call is not."""
_SPELLED = {"Vae": "VAE", "Controlnet": "ControlNet"}
_FLAG = re.compile(r"--[\w-]+")
_OF_COMMAND = f" (default: {DEFAULT_PROMPT})"
"""The default prompt is the command line's alone."""

OPTIONS: Mapping[str, Option] = {
    name: one for group in GROUPS for name, one in declared(group).items() if one.flags
}
"""Options that can be typed: those that the command line has a flag for."""
_BY_FLAG = {flag: name for name, one in OPTIONS.items() for flag in one.flags}


def groups(taken: Collection[str]) -> list[dict[str, Any]]:
    """The options in the groups that declare them, of those that the server takes."""
    made = [
        {
            "name": group.__name__,
            "families": [family.name for family in FAMILIES if family.options is group],
            "fields": [
                field(one)
                for name, one in declared(group).items()
                if name in OPTIONS and name in taken
            ],
        }
        for group in GROUPS
    ]
    return [group for group in made if group["fields"]]


def field(one: Option) -> dict[str, Any]:
    """An option as the form shows it: `{name}` in its help stands for another field's label."""
    choices = list(one.choices()) if one.choices else None
    return {
        "name": one.name,
        "label": label(one.name),
        "help": _FLAG.sub(_named, one.help.replace(_OF_COMMAND, "")),
        "kind": "choice" if choices else _KINDS.get(one.type, "text"),
        "choices": choices,
        "default": one.default,
        "most": one.most,
    }


def label(name: str) -> str:
    """ "Guidance scale" of `guidance_scale`."""
    words = name.replace("_", " ").capitalize()
    return _LABELS.get(name, re.sub("|".join(_SPELLED), lambda word: _SPELLED[word[0]], words))


def _named(flag: re.Match[str]) -> str:
    name = _BY_FLAG.get(flag[0])
    return f"{{{name}}}" if name else flag[0]
