"""What a client may ask, as a pydantic model made of the options that the runtime declares."""

import collections.abc
import os
import types
import typing
from collections.abc import Collection, Mapping
from typing import Annotated, Any, BinaryIO, Literal, Union

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, create_model

from pleinair.runtime.options.groups import CALL, PROFILES
from pleinair.runtime.options.option import Option, declared

from ..asked import Asked
from ..bounds import PICTURES, SERVED
from ..errors import Refusal
from ..models import Models
from ..pictures import received
from ..settings import Settings

_OWNERS = frozenset({"safety"})
"""What whoever runs the server decides."""
_TEXTS = frozenset({"prompt", "negative_prompt"})
"""Lists of them are for programs; a job has one."""
_MOST_PICTURES = 8
"""In a field that takes several: one for each ControlNet."""
_NO_JSON = (os.PathLike, bytes, BinaryIO, np.ndarray, types.NoneType)


class Named(BaseModel):
    """A file that the server lists, and how much of it."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=255)
    weight: float = Field(1.0, allow_inf_nan=False, ge=-10, le=10)


def options_of(models: Models) -> dict[str, Option]:
    """The options of a call that the kinds of models served here have, by their names."""
    families = [models.pipeline(Asked(model=name)).family for name in models.folders]
    groups = dict.fromkeys((*CALL, *(family.options for family in families)))
    return {
        name: one
        for group in groups
        for name, one in declared(group).items()
        if name in SERVED and name not in _OWNERS
    }


def job_model(
    models: Models, settings: Settings, only: Collection[str] | None = None
) -> type[BaseModel]:
    """The model of a job: the options, and what stands around a call.

    only: the fields that are wanted; None is all of them.
    """
    made = {name: _field(one, settings) for name, one in options_of(models).items()}
    listed, nets = ", ".join(models.folders), ", ".join(models.controlnets) or "none"
    around: dict[str, Any] = {
        "model": (
            str | None,
            Field(None, max_length=255, description=f"one of: {listed} (default: the first)"),
        ),
        "profile": (
            _one_of(*PROFILES, "auto") | None,
            Field(None, description="what is given up for speed (default: the server's)"),
        ),
        "loras": (
            list[Named],
            Field([], max_length=20, description="LoRA files of those that /v1/models lists"),
        ),
        "controlnets": (
            list[Named],
            Field([], max_length=8, description=f"ControlNets, of: {nets}"),
        ),
        "number": (
            int,
            Field(1, ge=1, le=settings.max_n, description="pictures, painted from seed, seed + 1…"),
        ),
        "seed": (int | None, Field(None, description="a whole number; -1 and null draw one")),
    }
    fields = {
        name: field for name, field in (made | around).items() if only is None or name in only
    }
    return create_model("JobRequest", __config__=ConfigDict(extra="forbid"), **fields)


def asked(request: BaseModel, settings: Settings) -> Asked:
    """What a job's model asks for, its pictures read; Refusal names one that is none."""
    values = request.model_dump(exclude_none=True)
    around = {
        name: values.pop(name) for name in ("model", "profile", "number", "seed") if name in values
    }
    loras, nets = (
        [(one["name"], one["weight"]) for one in values.pop(name, [])]
        for name in ("loras", "controlnets")
    )
    for name, value in values.items():
        if name in PICTURES:
            many = isinstance(value, list)
            if many and len(value) > _MOST_PICTURES:
                raise Refusal(f"{name} has more than {_MOST_PICTURES} pictures", param=name)
            read = [received(one, settings, name) for one in (value if many else [value])]
            values[name] = read if many else read[0]
    arguments = {"prompt": "", **values}
    return Asked(loras=loras, controlnets=nets, arguments=arguments, **around)


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (Union, types.UnionType)


def _field(one: Option, settings: Settings) -> tuple[Any, Any]:
    """A pydantic field: not given is null."""
    about: dict[str, Any] = {"description": one.summary}
    if one.name in PICTURES:
        about["description"] = f"{one.help}; as base64, or as a data URL"
    if one.most is not None:
        about["le"] = one.most
    if one.name in _TEXTS:
        return str | None, Field(None, max_length=settings.max_prompt, **about)
    if one.choices is not None and one.name != "scheduler":
        return _one_of(*one.choices()) | None, Field(None, **about)
    return _json_type(one.hint) | None, Field(None, **about)


def _one_of(*values: str) -> Any:
    literal: Any = Literal
    return literal[values]


def _json_type(hint: Any) -> Any:
    """What a hint is in JSON: pictures are text, sequences are lists."""
    origin = typing.get_origin(hint)
    if _is_union(hint):
        fit = [
            one for one in typing.get_args(hint) if (typing.get_origin(one) or one) not in _NO_JSON
        ]
        return Union[tuple(dict.fromkeys(_json_type(one) for one in fit))]  # noqa: UP007
    if origin is collections.abc.Sequence:
        (of,) = typing.get_args(hint)
        return types.GenericAlias(list, (_json_type(of),))
    return _ATOMS.get(hint, hint)


_ATOMS: Mapping[Any, Any] = {
    Image.Image: str,
    float: Annotated[float, Field(allow_inf_nan=False)],
}
