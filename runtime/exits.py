"""How every command of ours ends: in one line and an exit code."""

import sys
from collections.abc import Callable

from .errors import PleinairError

MISTAKE = 2
INTERRUPTED = 130


def exit_code(run: Callable[[], int | None], name: str = "error", stopped: str = "stopped") -> int:
    """Run a command; what it returns (None is 0), 2 for a mistake of its user's, 130 for Ctrl-C.

    name: what stands before the one line that a mistake gets.
    stopped: what is said of an interruption.
    """
    try:
        return run() or 0
    except PleinairError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return INTERRUPTED
