"""Files written whole or not at all; and strangers' JSON, read with bounds and one clear error."""

import contextlib
import hashlib
import json
import math
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from .errors import BundleError, PleinairError

_MOST = 64 << 20
"""Bytes of the largest JSON file that is read; a large tokenizer takes about 20 MB."""

Shape = TypeVar("Shape")


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


def present(file: Path, hint: str = "copy or convert it anew") -> bool:
    """Whether a regular file is there.

    Raises BundleError for what stands in its place and is none: a folder, a pipe, a link that
    leads nowhere. Taken for absent, it would be another model without a word.
    """
    try:
        if file.is_file():
            return True
        if not os.path.lexists(file):
            return False
    except (OSError, ValueError):  # a name that the system does not take
        pass
    raise BundleError(f"{file}: not a regular file; {hint}")


def read_json(
    path: Path,
    hint: str = "copy it there",
    optional: bool = False,
    *,
    error: type[PleinairError] = BundleError,
) -> dict[str, Any]:
    """The object in a JSON file; {} where an optional one is absent.

    Raises `error`, naming the file: where it is missing, no regular file (a folder, a pipe, a link
    that leads nowhere), larger than 64 MiB, or what `parse_json` refuses.
    """
    if not os.path.lexists(path):
        if optional:
            return {}
        raise error(f"{path}: missing; {hint}")
    if not path.is_file():
        raise error(f"{path}: not a regular file; copy or convert it anew")
    try:
        size = path.stat().st_size
        if size > _MOST:
            raise error(f"{path}: {size:,} bytes are too many for it; copy or convert it anew")
        content = parse_json(path.read_bytes(), path, error=error)
    except OSError as problem:
        raise error(f"{path}: cannot be read ({problem.strerror}); copy it anew") from problem
    if not isinstance(content, dict):
        raise error(f"{path}: not a JSON object; copy or convert it anew")
    return content


def parse_json(
    text: str | bytes,
    where: str | Path,
    *,
    error: type[PleinairError] = BundleError,
    nan_is_null: bool = False,
) -> Any:
    """What a JSON text says.

    nan_is_null: NaN and Infinity, which Python's own writer puts there, are None.
    Raises `error`, naming `where`, for what is no JSON: NaN and Infinity, numbers of thousands of
    digits and lists nested a thousand deep among it. -Infinity is read: diffusers writes it, as
    `lambda_min_clipped` of the DPM-Solver family.
    """

    def constant(name: str) -> float | None:
        if nan_is_null:
            return None
        if name == "-Infinity":
            return -math.inf
        raise ValueError(f"{name} is no JSON")

    try:
        return json.loads(text, parse_constant=constant)
    except RecursionError:
        raise error(f"{where}: nested too deep; copy or convert it anew") from None
    except ValueError as problem:
        raise error(f"{where}: not JSON ({problem}); copy or convert it anew") from problem


def conform(
    content: Any,
    shape: type[Shape],
    where: str | Path,
    hint: str = "copy or convert it anew",
    *,
    error: type[PleinairError] = BundleError,
) -> Shape:
    """What JSON says as a `shape`: a msgspec.Struct, whose fields bear types and bounds.

    Raises `error`, naming `where`, the field and what it should be; never the value, which may be
    of any size.
    """
    try:
        return msgspec.convert(content, shape)
    except (msgspec.ValidationError, RecursionError, UnicodeEncodeError) as problem:
        said = re.sub(r" - at `\$\.?(.*)`$", r" at \1", str(problem)).replace("`", "")
        raise error(f"{where}: {said}; {hint}") from problem


def short_digest(content: Any) -> str:
    """A few digits of what can be written as JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
