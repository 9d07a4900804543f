"""Files written whole or not at all, in place of what was there."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to: at the end it takes its place, or is gone where that fails.

    Any number of processes and threads may do so at once. Raises what the system raises (OSError).
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
