"""How an option of a call is declared: once, as a field of a dataclass.

The library takes its name and default from the field, the command line its flags and help, a
picture's file its type, bounds and choices, the benchmark and a server all of them.

    @dataclass(frozen=True, kw_only=True)
    class Tiling:
        tile: int | None = option("--tile", metavar="PIXELS", help="paint in tiles of this side")
"""

import dataclasses
import difflib
import functools
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from . import migration
from .values import conform, parts

Group = TypeVar("Group")

_KEY = "option"


@dataclass(frozen=True)
class Option:
    """An option, as its field declares it.

    name: the argument of a call. type: of its values, None aside; of several types the first.
    hint: all types that a call takes for it, as the field is annotated.
    flags: of the command line; none for what is no text. help: one sentence, without a full stop.
    choices: gives the values that there are, where they are few.
    recorded: whether a picture's file says it, and `--params-from` and `--compare` may set it.
    most: the largest number that is taken from a picture's file, which may be anybody's.
    """

    name: str
    type: type
    default: Any
    flags: tuple[str, ...] = ()
    metavar: str = ""
    help: str = ""
    choices: Callable[[], Sequence[str]] | None = None
    recorded: bool = True
    most: float | None = None
    hint: Any = Any

    @property
    def summary(self) -> str:
        """The help, with the choices."""
        return self.help if self.choices is None else f"{self.help}: {', '.join(self.choices())}"


def option(
    *flags: str,
    default: Any = None,
    metavar: str = "",
    help: str = "",
    choices: Callable[[], Sequence[str]] | None = None,
    recorded: bool = True,
    most: float | None = None,
) -> Any:
    """A dataclass field that declares an option: see `Option`."""
    declared = {
        "flags": flags,
        "metavar": metavar,
        "help": help,
        "choices": choices,
        "recorded": recorded,
        "most": most,
    }
    return dataclasses.field(default=default, metadata={_KEY: declared})


@functools.cache
def declared(group: Any) -> Mapping[str, Option]:
    """The options of a group, a dataclass, by their names, in the order of its fields."""
    hints = typing.get_type_hints(group)
    return {
        field.name: Option(
            name=field.name,
            type=_type(hints[field.name]),
            default=field.default,
            hint=hints[field.name],
            **field.metadata[_KEY],
        )
        for field in dataclasses.fields(group)
    }


def gathered(groups: Iterable[type], arguments: Mapping[str, Any]) -> dict[type, Any]:
    """Each group made of those of the arguments that it declares.

    Raises TypeError, as Python does, for an argument that none of them declares, and SettingError
    for one that diffusers has otherwise, and for a value of another type than is declared.
    """
    groups, arguments = list(groups), migration.taken(arguments, migration.CALL)
    known = {name for group in groups for name in declared(group)}
    for name in arguments.keys() - known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"; meant: {near[0]}" if near else ""
        raise TypeError(f"a call has no argument {name!r}{hint}")
    return {
        group: group(
            **{
                name: conform(name, arguments[name], one.hint)
                for name, one in declared(group).items()
                if name in arguments
            }
        )
        for group in groups
    }


def _type(hint: Any) -> type:
    """`int` of `int | None`; of a choice of several types the first."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        hint = next(one for one in typing.get_args(hint) if one is not type(None))
    origin, _ = parts(hint)
    return origin if isinstance(origin, type) else object
