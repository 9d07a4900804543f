"""Files: written whole or not at all, and JSON read with one clear error."""

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import BundleError


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


def read_json(path: Path, hint: str = "copy it there", optional: bool = False) -> dict[str, Any]:
    """The object in a JSON file; {} where an optional one is absent; else BundleError names it."""
    if not path.is_file():
        if optional:
            return {}
        raise BundleError(f"{path}: missing; {hint}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{path}: not JSON ({error}); copy or convert it anew") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path}: not a JSON object; copy or convert it anew")
    return content


def short_digest(content: Any) -> str:
    """A few digits of what can be written as JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
