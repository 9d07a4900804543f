"""`pleinair models`: the known models, and which of them are on this machine."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .. import catalog
from ..bundle import Bundle
from ..errors import BundleError, PleinairError


def models(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="pleinair models",
        description="List the known models and say what is on disk.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--verify", action="store_true", help="read every file again and check its sha256"
    )
    options = parser.parse_args(argv)
    here = {folder.name: folder for folder in reversed(catalog.installed())}
    known = catalog.entries()
    table = Table("model", "on disk", "size", "steps", "licence", "what it is", box=None)
    for name, entry in known.items():
        state = _state(here[name]) if name in here else catalog.how_to_get(entry)
        size, steps = f"{entry.size}x{entry.size}", str(entry.steps)
        table.add_row(name, state, size, steps, entry.licence, entry.about)
    for name, folder in here.items():
        if name not in known:
            table.add_row(name, _state(folder), "", "", "", "converted here")
    Console().print(table)
    return _verify(list(here.values())) if options.verify else 0


def _state(folder: Path) -> str:
    try:
        bundle = Bundle.open(folder)
    except BundleError as error:
        return f"cannot be used: {error}"
    return f"{folder} ({', '.join(bundle.graphs)})"


def _verify(folders: Sequence[Path]) -> int:
    bad = 0
    for folder in folders:
        try:
            bundle = Bundle.open(folder)
            bundle.verify()
        except PleinairError as error:
            print(f"error: {error}", file=sys.stderr)
            bad = 2
        else:
            print(f"{folder}: {len(bundle.manifest.get('files', {}))} files as exported")
    return bad
