"""`pleinair completion SHELL`: a script by which a shell completes commands, options and values.

It is written once, from the parsers, and nothing of Pleinair runs when Tab is pressed.
"""

import argparse
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..errors import PleinairError
from ..options.groups import PROFILES
from . import arguments
from .commands import COMMANDS
from .parser import Parser

EPILOG = """\
bash: eval "$(pleinair completion bash)"                 in ~/.bashrc
zsh:  eval "$(pleinair completion zsh)"                  in ~/.zshrc, behind compinit
fish: pleinair completion fish | source                  in ~/.config/fish/config.fish
"""


@dataclass(frozen=True)
class Flag:
    """An option of a command, as it is completed.

    values: those it takes, where they are few; () is anything, a file's name perhaps.
    takes: whether a value follows at all.
    """

    names: tuple[str, ...]
    help: str
    takes: bool
    values: tuple[str, ...]


def completion(argv: Sequence[str]) -> int:
    options = parser().parse_args(argv)
    print(_SCRIPTS[options.shell](_flags()), end="")
    return 0


def parser() -> Parser:
    made = Parser(
        "pleinair completion",
        description="Print what makes a shell complete pleinair's commands and options.",
        epilog=EPILOG,
    )
    made.add_argument("shell", choices=tuple(_SCRIPTS), help="bash, zsh or fish")
    return made


def _flags() -> Mapping[str, list[Flag]]:
    """Command -> its options; those of a command that is not installed are left out."""
    found = {}
    for name, command in COMMANDS.items():
        try:
            found[name] = [_flag(one) for one in command.parser(name)._actions]
        except (PleinairError, ImportError):
            found[name] = []
    return {name: [flag for flag in flags if flag.names] for name, flags in found.items()}


def _flag(action: argparse.Action) -> Flag:
    values = tuple(map(str, action.choices or ()))
    declared = arguments.OPTIONS.get(action.dest)
    if not values and declared is not None and declared.choices is not None:
        values = tuple(declared.choices())
    if action.dest == "profile":
        values = (*PROFILES, "auto")
    help = (action.help or "").partition(" (")[0].replace("%", "")
    return Flag(tuple(action.option_strings), help, action.nargs != 0, values)


def _bash(flags: Mapping[str, Sequence[Flag]]) -> str:
    words = [f"    {name}) flags={shlex.quote(_names(found))} ;;" for name, found in flags.items()]
    values = {
        name: " ".join(flag.values)
        for found in flags.values()
        for flag in found
        for name in flag.names
        if flag.values
    }
    choices = [f"    {name}) values={shlex.quote(some)} ;;" for name, some in values.items()]
    lines = [
        "_pleinair() {",
        '  local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}"',
        "  local flags values=",
        '  case "${COMP_WORDS[1]}" in',
        *words,
        f"    *) flags={shlex.quote(_names(flags['paint']))} ;;",
        "  esac",
        '  case "$before" in',
        *choices,
        "  esac",
        '  if [ -n "$values" ]; then flags="$values"',
        f'  elif [ "$COMP_CWORD" -eq 1 ]; then flags="$flags {" ".join(flags)}"',
        '  elif [ "${word#-}" = "$word" ]; then flags=; fi',
        '  COMPREPLY=($(compgen -W "$flags" -- "$word"))',
        "}",
        "complete -o default -o bashdefault -F _pleinair pleinair",
    ]
    return "\n".join(lines) + "\n"


def _zsh(flags: Mapping[str, Sequence[Flag]]) -> str:
    """By zsh's own emulation of bash's completion."""
    return "autoload -U +X bashcompinit && bashcompinit\n" + _bash(flags)


def _fish(flags: Mapping[str, Sequence[Flag]]) -> str:
    commands = " ".join(flags)
    lines = []
    for name, command in COMMANDS.items():
        about = f"-a {name} -d {shlex.quote(command.about)}"
        lines.append(f"complete -c pleinair -n __fish_use_subcommand {about}")
    for name, found in flags.items():
        seen = f"__fish_seen_subcommand_from {name}"
        if name == "paint":
            seen += f"; or not __fish_seen_subcommand_from {commands}"
        for flag in found:
            names = " ".join(
                f"-l {one[2:]}" if one.startswith("--") else f"-s {one[1:]}" for one in flag.names
            )
            takes = " -r" if flag.takes else ""
            values = f" -f -a {shlex.quote(' '.join(flag.values))}" if flag.values else ""
            about = f" -d {shlex.quote(flag.help)}"
            lines.append(
                f"complete -c pleinair -n {shlex.quote(seen)} {names}{takes}{values}{about}"
            )
    return "\n".join(lines) + "\n"


def _names(flags: Sequence[Flag]) -> str:
    return " ".join(name for flag in flags for name in flag.names)


_SCRIPTS: Mapping[str, Callable[[Mapping[str, Sequence[Flag]]], str]] = {
    "bash": _bash,
    "zsh": _zsh,
    "fish": _fish,
}
