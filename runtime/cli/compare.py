"""`--compare steps=10,25,50 scheduler=euler,dpmpp_2m`: one picture for every pair of values."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from .. import schedulers
from ..errors import Argument, Message, SettingError, did_you_mean
from ..images.sheets import sheet
from ..options.option import Option
from .arguments import CALL, by_flag

_MOST_AXES = 3
_SIZE = "size"
_KINDS = {int: "whole number", float: "number"}


@dataclass(frozen=True)
class Axis:
    """One setting's values, or pairs of width and height: what each is called, what it sets."""

    labels: tuple[str, ...]
    values: tuple[Mapping[str, Any], ...]
    sets: frozenset[str]


@dataclass(frozen=True)
class Comparison:
    """Up to three axes: the first runs along the columns, then the rows, then the sheets."""

    axes: tuple[Axis, ...]

    @classmethod
    def parsed(cls, words: Sequence[str]) -> "Comparison":
        """From `name=value,value` words; raises SettingError for what cannot be compared."""
        axes = tuple(_axis(word) for word in words)
        if len(axes) > _MOST_AXES:
            raise SettingError(f"--compare has {len(axes)} settings; give at most {_MOST_AXES}")
        for one, other in itertools.combinations(axes, 2):
            if one.sets & other.sets:
                twice = min(one.sets & other.sets)
                raise SettingError(
                    Message("--compare has {0} twice; list all its values in one", Argument(twice))
                )
        return cls(axes)

    def cells(self) -> list[dict[str, Any]]:
        """What each picture's settings are, sheet by sheet and row by row."""
        return [
            {name: value for chosen in choice for name, value in chosen.items()}
            for choice in itertools.product(*(axis.values for axis in reversed(self.axes)))
        ]

    def sheets(self, pictures: Sequence[Image.Image]) -> list[Image.Image]:
        """The pictures of `cells`, in that order, on labelled sheets."""
        columns, rows, titles = (
            self.axes[i].labels if i < len(self.axes) else () for i in range(_MOST_AXES)
        )
        cells = iter(pictures)
        return [
            sheet([[next(cells) for _ in columns] for _ in rows or [""]], columns, rows, title)
            for title in titles or [""]
        ]


def _axis(word: str) -> Axis:
    name, equals, text = word.partition("=")
    known_options = by_flag(CALL)
    if not equals or name not in (*known_options, _SIZE):
        flags = {one.flags[0].lstrip("-") for one in known_options.values()}
        known = ", ".join(sorted(flags | {_SIZE}))
        near = did_you_mean(name, [*known_options, _SIZE])
        raise SettingError(f"--compare {word}: write name=value,value with one of: {known}{near}")
    if name == _SIZE:
        return _sizes(word, text)
    option = known_options[name]
    prose = option.name in ("prompt", "negative_prompt")
    parts = _outside_brackets(text) if prose else text.split(",")
    values = tuple(_value(word, option, part.strip()) for part in parts)
    labels = (str(value) if option.type is str else f"{name} {value}" for value in values)
    return Axis(
        tuple(labels),
        tuple({option.name: value} for value in values),
        frozenset({option.name}),
    )


def _value(word: str, option: Option, text: str) -> Any:
    if not text and option.name != "negative_prompt":
        raise SettingError(f"--compare {word}: a value is missing")
    if option.name == "scheduler" and text not in schedulers.names():
        known = ", ".join(schedulers.names())
        near = did_you_mean(text, schedulers.names())
        raise SettingError(
            f"--compare {word}: no scheduler is named {text!r}: choose from {known}{near}"
        )
    try:
        return option.type(text)
    except ValueError:
        kind = _KINDS[option.type]
        raise SettingError(f"--compare {word}: {text!r} is not a {kind}") from None


def _sizes(word: str, text: str) -> Axis:
    """Sizes as 512x768: width and height together, for comparing aspect ratios."""
    labels = tuple(part.strip() for part in text.split(","))
    values = []
    for label in labels:
        width, _, height = label.partition("x")
        if not (width.isdecimal() and height.isdecimal()):
            raise SettingError(f"--compare {word}: {label!r} is not a size such as 512x768")
        values.append({"width": int(width), "height": int(height)})
    return Axis(labels, tuple(values), frozenset({"width", "height"}))


def _outside_brackets(text: str) -> list[str]:
    """Split at | where it does not stand in [brackets]: there it is part of a prompt."""
    parts, depth = [""], 0
    for letter in text:
        depth += {"[": 1, "]": -1}.get(letter, 0)
        if letter == "|" and depth <= 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts
