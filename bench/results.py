"""Where results go: the terminal, a JSON file with everything, a Markdown file with the tables."""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from pleinair.runtime.errors import SettingError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there")


def check(options: argparse.Namespace) -> None:
    """Refuse, before hours of measuring, files that cannot be written after them."""
    for file in (options.json, options.markdown):
        if file is not None and file.exists():
            raise SettingError(f"{file} exists; remove it or choose another file")
        if file is not None and not file.absolute().parent.is_dir():
            raise SettingError(f"{file.absolute().parent} is no folder; make it first")


def publish(options: argparse.Namespace, measured: dict[str, Any], markdown: str) -> None:
    """Print the tables and write the files that were asked for."""
    print(markdown)
    if options.json is not None:
        _write(options.json, json.dumps(measured, indent=2) + "\n")
    if options.markdown is not None:
        _write(options.markdown, markdown + "\n")


def _write(file: Path, text: str) -> None:
    """Whole or not at all."""
    handle, partial = tempfile.mkstemp(dir=file.absolute().parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as opened:
            opened.write(text)
        os.replace(partial, file)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
