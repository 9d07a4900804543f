"""`pleinair --help`: a screen with what most people need; `--help all` is all of it."""

import argparse
import re
from collections.abc import Sequence
from typing import Any

from ..errors import SettingError, did_you_mean, shown
from .commands import COMMANDS

_MOST_USED = (
    "--negative-prompt",
    "--model",
    "--steps",
    "--scale",
    "--W",
    "--H",
    "--seed",
    "--init-img",
    "--profile",
    "--outdir",
)
_HEAD = """\
Paint pictures from text with Stable Diffusion, on the CPU.

  pleinair "a red apple, noto style"
  pleinair "a rocket" --steps 20 --n-samples 4 --seed 7
"""
_TAIL = """\
pleinair --help all: every option; pleinair COMMAND --help: those of a command
"""


class Help(argparse.Action):
    """`--help` prints the screen, `--help all` every option."""

    def __init__(self, option_strings: Sequence[str], dest: str, **about: Any) -> None:
        about["default"] = argparse.SUPPRESS
        super().__init__(option_strings, dest, nargs="?", const="", **about)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if values == "all":
            print(parser.format_help(), end="")
        elif values == "":
            print(screen(parser), end="")
        else:
            near = did_you_mean(str(values), ["all"])
            raise SettingError(f"--help {shown(values)}: give --help or --help all{near}")
        parser.exit()


def screen(parser: argparse.ArgumentParser) -> str:
    """The most used options, by the first words of what each says of itself; and the commands."""
    by_flag = {flag: one for one in parser._actions for flag in one.option_strings}
    options = [(f"{flag} {by_flag[flag].metavar}", _brief(by_flag[flag])) for flag in _MOST_USED]
    commands = [(name, command.about) for name, command in COMMANDS.items()]
    return "\n".join([_HEAD, *_columns(options), "", *_columns(commands), "", _TAIL])


def _columns(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(name) for name, _ in rows)
    return [f"  {name:<{width}}  {words}" for name, words in rows]


def _brief(action: argparse.Action) -> str:
    return re.split(r" \(|;|: one of|, as ", action.help or "")[0]
