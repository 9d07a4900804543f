"""Where results go: the terminal, a JSON file with all, a Markdown file with the tables, a PNG."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from pleinair.runtime.errors import SettingError
from pleinair.runtime.files import replacing
from pleinair.runtime.record.saving import check_target, save


def add_arguments(parser: argparse.ArgumentParser, picture: str | None = None) -> None:
    """--json and --markdown, and with `picture`, as "chart", the flag --chart."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there")
    if picture is not None:
        flag = f"--{picture}"
        parser.add_argument(
            flag, dest="picture", type=Path, metavar="FILE.png", help=f"draw the {picture} there"
        )
    parser.set_defaults(picture=None)


def check(options: argparse.Namespace, *counts: str) -> None:
    """Refuse, before hours of measuring, files that cannot be written after them.

    counts: options of which there must be one or more.
    """
    for name in counts:
        if getattr(options, name) < 1:
            raise SettingError(f"{name} is {getattr(options, name)}; give 1 or more")
    for file in (options.json, options.markdown, options.picture):
        if file is not None and file.exists():
            raise SettingError(f"{file} exists; remove it or choose another file")
        if file is not None and not file.absolute().parent.is_dir():
            raise SettingError(f"{file.absolute().parent} is no folder; make it first")
    if options.picture is not None:
        check_target(options.picture)


def publish(
    options: argparse.Namespace,
    measured: dict[str, Any],
    markdown: str,
    draw: Callable[[], Image.Image] | None = None,
) -> None:
    """Print the tables and write the files that were asked for; `draw` makes the picture."""
    print(markdown)
    if options.json is not None:
        _write(options.json, json.dumps(measured, indent=2) + "\n")
    if options.markdown is not None:
        _write(options.markdown, markdown + "\n")
    if options.picture is not None and draw is not None:
        save(draw(), options.picture)


def _write(file: Path, text: str) -> None:
    with replacing(file) as part:
        part.write_text(text, encoding="utf-8", newline="\n")
