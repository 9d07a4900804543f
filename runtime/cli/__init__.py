"""The command line: `demo.py` in a checkout, `pleinair` where it is installed."""

import logging
import sys
from collections.abc import Sequence

from ..errors import PleinairError
from .arguments import parser

USAGE_ERROR = 2
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code, 2 for a mistake of the user's."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _tell_on_stderr()
    try:
        if arguments[:1] == ["models"]:
            from .models import models

            return models(arguments[1:])
        if arguments[:1] == ["pull"]:
            from .pull import pull

            return pull(arguments[1:])
        options = parser().parse_args(arguments)
        from .paint import paint  # after the options: --help needs no engine

        return paint(options)
    except PleinairError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return INTERRUPTED


def _tell_on_stderr() -> None:
    """Show what the library logs: it is a line or two a run, and meant for the user."""
    logger = logging.getLogger("pleinair")
    logger.setLevel(logging.INFO)
    logger.handlers = [logging.StreamHandler()]
    logger.propagate = False
