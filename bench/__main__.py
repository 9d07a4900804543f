"""`python -m pleinair.bench COMMAND`."""

import sys
from collections.abc import Sequence

from pleinair.runtime.cli.parser import Parser
from pleinair.runtime.exits import exit_code

from . import (
    environments,
    fixture,
    hybrid,
    making,
    operations,
    peers,
    quality,
    scale,
    serve,
    single_file,
    soak,
    speed,
    start,
    throughput,
    unet,
)
from .device import prepare as device


def parser() -> Parser:
    """The command line. Nothing heavy is imported, so `--help` is quick."""
    made = Parser(
        "python -m pleinair.bench", description="Measure Pleinair, alone and beside others."
    )
    commands = made.add_subparsers(metavar="COMMAND", required=True)
    rooms = (
        *(fixture, single_file, hybrid, environments, making),
        *(speed, operations, peers, quality, soak, start, throughput, scale, serve, unet, device),
    )
    for command in rooms:
        command.add_to(commands)
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 0, 2 for a mistake that the user can mend, 130 when interrupted."""

    def run() -> int | None:
        options = parser().parse_args(argv)
        code: int | None = options.run(options)
        return code

    return exit_code(run, "pleinair.bench", "pleinair.bench: stopped")


if __name__ == "__main__":
    sys.exit(main())
