"""`pleinair.json`: where a folder came from, what made it, what is in it and how exact it is."""

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pleinair.runtime.model.manifest import FILE, describe, sha256

__all__ = ["FILE", "describe", "sha256", "text", "versions", "write", "write_json"]

FORMAT_VERSION = 1
_MAKERS = {
    "pleinair",
    "torch",
    "diffusers",
    "transformers",
    "openvino",
    "openvino-tokenizers",
    "onnx",
    "onnxruntime",
}


def write(
    folder: Path,
    source: dict[str, Any],
    formats: Sequence[str],
    precision: str,
    parity: dict[str, Any],
    recommended: Mapping[str, Any] | None = None,
) -> None:
    """Describe `folder` in `pleinair.json`. Keys are sorted and no machine's path is in it.

    recommended: what the model is best painted with: "size", "steps", "guidance_scale" and
        "scheduler"; None where nobody knows.
    """
    content = {
        "format_version": FORMAT_VERSION,
        "source": source,
        "created_by": versions(),
        "precision": precision,
        "formats": list(formats),
        "parity": parity,
        "files": {
            path.relative_to(folder).as_posix(): describe(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        },
    }
    if recommended is not None:
        content["recommended"] = dict(recommended)
    write_json(folder / FILE, content)


def text(content: Any) -> str:
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text(content), encoding="utf-8", newline="\n")


def versions(makers: Iterable[str] = _MAKERS) -> dict[str, str]:
    """Of what has made it, as installed here."""
    found = {}
    for name in makers:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
