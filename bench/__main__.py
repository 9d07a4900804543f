"""`python -m pleinair.bench COMMAND`."""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from pleinair.runtime.exits import exit_code

from . import (
    environments,
    fixture,
    operations,
    peers,
    quality,
    single_file,
    soak,
    speed,
    start,
    unet,
)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with an argument in one line, as every other mistake is said."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """The command line. Nothing heavy is imported, so `--help` is quick."""
    made = _Parser(
        prog="python -m pleinair.bench", description="Measure Pleinair, alone and beside others."
    )
    commands = made.add_subparsers(metavar="COMMAND", required=True)
    rooms = fixture, single_file, environments, speed, operations, peers, quality, soak, start, unet
    for command in rooms:
        command.add_to(commands)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 0, 2 for a mistake that the user can mend, 130 when interrupted."""
    options = parser().parse_args(argv)
    return exit_code(lambda: options.run(options), "pleinair.bench", "pleinair.bench: stopped")


if __name__ == "__main__":
    sys.exit(main())
