"""Defaults of the options: from pleinair.toml, the user's and the project's, and the environment.

    model = "stable-diffusion-v1-5"
    steps = 25
    lora = ["models/loras/ink.safetensors:0.8"]

A key is an option as it is typed, without its dashes. The command line wins over the environment,
that over ./pleinair.toml, and that over the user's own file.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import SettingError, did_you_mean, shown
from ..exits import tell
from ..speed.tuning import settings_folder
from .arguments import BETAS, CALL, flags
from .parser import Parser

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = "pleinair.toml"
_MOST = 1 << 20
"""Bytes of the largest file that is read."""
_ENVIRONMENT = ("model", "profile", "precision", "engine", "device", "threads", "outdir")
"""Options that PLEINAIR_MODEL and so on are defaults of."""
_TYPED = frozenset({"prompt", "from_file", "params_from", "compare", "output", "no_config"})
"""They say what is painted this time."""
_REPEATED = frozenset({*CALL, *BETAS, "model", "engine", "device", "watermark"})
"""With --params-from a picture's file says these."""


def defaults(parser: Parser, typed: Mapping[str, Any]) -> dict[str, Any]:
    """The values that the files and the environment give to options that are not typed.

    One line says which the project's file gives, for it need not be the user's own.
    Raises SettingError, naming the file, for what cannot be read or is no option.
    """
    values: dict[str, Any] = {}
    if not typed.get("no_config"):
        values.update(_of_file(settings_folder() / FILE, parser))
        if here := _of_file(Path(FILE), parser):
            names = (flags().get(name, name).lstrip("-") for name in here)
            tell(f"defaults from {Path(FILE).absolute()}: {', '.join(names)}")
            values.update(here)
    values.update(_of_environment(parser))
    left_out = {*typed, *(_REPEATED if "params_from" in typed else ())}
    return {name: value for name, value in values.items() if name not in left_out}


def _of_file(file: Path, parser: Parser) -> dict[str, Any]:
    if not os.path.lexists(file):
        return {}
    known = _known(parser)
    words = [
        word for key, value in _content(file).items() for word in _words(file, known, key, value)
    ]
    return _parsed(parser, words, str(file))


def _of_environment(parser: Parser) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in _ENVIRONMENT:
        variable = f"PLEINAIR_{name.upper()}"
        if value := os.environ.get(variable):
            values.update(_parsed(parser, [f"--{name}={value}"], variable))
    return values


def _content(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise SettingError(f"{file}: not a regular file; remove it, or give --no-config")
    try:
        with file.open("rb") as opened:
            text = opened.read(_MOST + 1)
        if len(text) > _MOST:
            raise SettingError(f"{file}: too large for a file of options; see --no-config")
        content: dict[str, Any] = tomllib.loads(text.decode("utf-8-sig"))
        return content
    except OSError as error:
        raise SettingError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SettingError(
            f"{file}: not TOML ({shown(str(error))}); mend it, or give --no-config"
        ) from error


def _words(file: Path, known: Mapping[str, argparse.Action], key: str, value: Any) -> Iterator[str]:
    """A line of the file as it would be typed."""
    action = known.get(key)
    if action is None:
        near = did_you_mean(key, known)
        raise SettingError(f"{file}: no option is named {shown(key)!r}{near or '; see --help all'}")
    if action.dest in _TYPED:
        raise SettingError(f"{file}: {key} is for the command line alone; remove it there")
    flag = action.option_strings[0]
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise SettingError(f"{file}: {key} is {shown(value)}; give true or false")
        yield from [_flag(key, action)] if value else []
        return
    several = isinstance(action, argparse._AppendAction)
    for one in value if several and isinstance(value, list) else [value]:
        if isinstance(one, bool) or not isinstance(one, str | int | float):
            raise SettingError(f"{file}: {key} is {shown(one)}; give a text or a number")
        yield f"{flag}={one}"


def _flag(key: str, action: argparse.Action) -> str:
    """Which of an option's flags a key is."""
    return next(flag for flag in action.option_strings if _key(flag) == _key(key))


def _key(word: str) -> str:
    return word.lstrip("-").replace("_", "-")


def _known(parser: Parser) -> dict[str, argparse.Action]:
    """Key -> the option, with dashes or underscores."""
    return {
        key: action
        for action in parser.options()
        for flag in action.option_strings
        for key in {flag.lstrip("-"), _key(flag), _key(flag).replace("-", "_")}
    }


def _parsed(parser: Parser, words: list[str], where: str) -> dict[str, Any]:
    try:
        return parser.given(words)[0]
    except SettingError as error:
        raise SettingError(f"{where}: {error}") from error
