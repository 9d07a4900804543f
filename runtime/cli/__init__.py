"""The command line: `demo.py` in a checkout, `pleinair` where it is installed."""

import contextlib
import logging
import sys
from collections.abc import Iterator, Sequence

from ..errors import Message, PleinairError
from ..exits import exit_code, tell


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code, 2 for a mistake of the user's."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words  # of every command
    with _telling():
        return exit_code(lambda: _run([word for word in words if word != "--debug"]), debug=debug)


def _run(words: Sequence[str]) -> int:
    from .commands import run

    try:
        return run(words)
    except PleinairError as error:
        from .arguments import flags

        raise PleinairError(error.spelled(flags())) from error


class _Stderr(logging.Handler):
    """Prints to what stderr is at that moment: progress bars put themselves in its place.

    What is said of every picture of a run is printed once.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        from .arguments import flags

        message = record.msg
        line = message.spelled(flags()) if isinstance(message, Message) else record.getMessage()
        if line not in self._told:
            self._told.add(line)
            tell(line)


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
