"""The command line: `demo.py` in a checkout, `pleinair` where it is installed."""

import contextlib
import logging
import sys
from collections.abc import Iterator, Sequence

from ..exits import exit_code
from .arguments import parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code, 2 for a mistake of the user's."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    with _telling():
        return exit_code(lambda: _run(arguments))


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["models"]:
        from .models import models

        return models(arguments[1:])
    if arguments[:1] == ["pull"]:
        from .pull import pull

        return pull(arguments[1:])
    if arguments[:1] == ["tune"]:
        from .tune import tune

        return tune(arguments[1:])
    options = parser().parse_args(arguments)
    from .paint import paint

    return paint(options)


class _Stderr(logging.Handler):
    """Prints to what stderr is at that moment: progress bars put themselves in its place.

    A line is printed once a run, however many pictures it is true of.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        if line not in self._told:
            self._told.add(line)
            print(line, file=sys.stderr)


@contextlib.contextmanager
def _telling() -> Iterator[None]:
    """Show what the library logs: it is a line or two a run, and meant for the user."""
    logger = logging.getLogger("pleinair")
    before = logger.level, logger.handlers, logger.propagate
    logger.setLevel(logging.INFO)
    logger.handlers = [_Stderr()]
    logger.propagate = False
    try:
        yield
    finally:
        level, logger.handlers, logger.propagate = before
        logger.setLevel(level)
