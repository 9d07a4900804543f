"""Write docs/help.md: what every command takes, from the parsers that read it.

    python docs/help.py

Versions of Python lay out `--help` differently; this page is the same with each of them.
"""

import argparse
import importlib
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "help.md"
WIDTH = 100
HEAD = """\
# Commands and their options

What `--help all` says, and `--help` of every other command. `pleinair convert` is
`pleinair-export`, `pleinair quantize` is `pleinair-quantize`, `pleinair bench` is
`python -m pleinair.bench`, and `pleinair paint` is `pleinair` alone.
`python docs/help.py` writes this page, and a test compares it with the commands.
[painting.md](painting.md) and [models.md](models.md) say what the options are for.
In a checkout `python demo.py` is the same command as `pleinair`.
"""

PARSERS = {
    "pleinair": "pleinair.runtime.cli.arguments:parser",
    "pleinair batch": "pleinair.serve.batch:parser",
    "pleinair models": "pleinair.runtime.cli.models:parser",
    "pleinair pull": "pleinair.runtime.cli.pull:parser",
    "pleinair tune": "pleinair.runtime.cli.tune:parser",
    "pleinair serve": "pleinair.serve.settings:parser",
    "pleinair doctor": "pleinair.runtime.cli.doctor:parser",
    "pleinair completion": "pleinair.runtime.cli.completion:parser",
    "pleinair-export": "pleinair.export.cli:parser",
    "pleinair-quantize": "pleinair.export.quantize:parser",
    "python -m pleinair.bench": "pleinair.bench.__main__:parser",
}
"""Command -> the function that makes its parser."""


class Layout(argparse.HelpFormatter):
    """Lays a parser's help out; argparse calls these methods in the order of the text."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=WIDTH)
        self.prog = prog
        self.lines: list[str] = []
        self.heading = ""

    def add_usage(
        self, usage: Any, actions: Iterable[argparse.Action], groups: Any, prefix: Any = None
    ) -> None:
        actions = [action for action in actions if action.dest != "help"]
        words = [self.prog]
        if any(action.option_strings for action in actions):
            words.append("[options]")
        words += [values(action) for action in actions if not action.option_strings]
        self.lines.append(" ".join(words))
        for group in groups:
            flags = [action.option_strings[0] for action in group._group_actions]
            self.lines += wrapped(f"at most one of: {', '.join(flags)}", 2)

    def add_text(self, text: str | None) -> None:
        if text:
            # What has lines of its own keeps them: examples of command lines.
            raw = "\n" in text
            self.lines += ["", *(text.rstrip().splitlines() if raw else wrapped(text, 0))]

    def start_section(self, heading: str | None) -> None:
        self.heading = heading or ""

    def end_section(self) -> None:
        self.heading = ""

    def add_arguments(self, actions: Iterable[argparse.Action]) -> None:
        for action in actions:
            if action.dest == "help" or action.nargs == argparse.PARSER:
                continue  # commands below this one have sections of their own
            if self.heading:
                self.lines += ["", f"{self.heading}:"]
                self.heading = ""
            names = ", ".join(action.option_strings)
            self.lines.append("  " + " ".join(filter(None, (names, values(action)))))
            if action.help:
                self.lines += wrapped(action.help % {**vars(action), "default": default(action)}, 8)

    def format_help(self) -> str:
        return "\n".join(self.lines)


def wrapped(text: str, indent: int) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
        break_long_words=False,
    )


def values(action: argparse.Action) -> str:
    """What is typed for an argument: FILE, [FILE], NAME [NAME ...]; nothing for a switch."""
    if action.nargs == 0:
        return ""
    name = action.metavar
    if name is None and isinstance(action.choices, list | tuple):
        name = f"{{{','.join(map(str, action.choices))}}}"
    if name is None:
        name = action.dest.upper() if action.option_strings else action.dest
    forms = {
        None: f"{name}",
        "?": f"[{name}]",
        "*": f"[{name} ...]",
        "+": f"{name} [{name} ...]",
        argparse.PARSER: f"{name} ...",
    }
    return forms[action.nargs]


def default(action: argparse.Action) -> Any:
    """An argument's default as it is typed; a path the same on every system."""
    return action.default.as_posix() if isinstance(action.default, Path) else action.default


def parser_of(command: str) -> argparse.ArgumentParser:
    module, _, function = PARSERS[command].partition(":")
    made: argparse.ArgumentParser = getattr(importlib.import_module(module), function)()
    return made


def section(command: str) -> str:
    """The part of the page about a command and the commands below it."""
    return "\n".join(described(parser_of(command), "##"))


def described(parser: argparse.ArgumentParser, level: str) -> list[str]:
    parser.formatter_class = Layout
    texts = [f"{level} {parser.prog}\n\n```text\n{parser.format_help()}\n```\n"]
    for below in commands(parser):
        texts += described(below, f"{level}#")
    return texts


def commands(parser: argparse.ArgumentParser) -> Iterable[argparse.ArgumentParser]:
    """The parsers of a command's commands, in their order."""
    for action in parser._actions:
        if action.nargs == argparse.PARSER and isinstance(action.choices, dict):
            yield from action.choices.values()


def main() -> None:
    page = "\n".join((HEAD, *(section(command) for command in PARSERS)))
    PAGE.write_text(page, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
