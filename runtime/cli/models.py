"""`pleinair models`: the known models, and which of them are on this machine."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import BundleError
from ..exits import tell
from ..model import catalog
from ..model.bundle import Bundle
from .parser import Parser


def parser() -> Parser:
    made = Parser(
        "pleinair models",
        description="List the known models and say what is on disk.",
    )
    made.add_argument(
        "--verify", action="store_true", help="read every file again and check its sha256"
    )
    return made


def models(argv: Sequence[str]) -> int:
    options = parser().parse_args(argv)
    here = {folder.name: folder for folder in reversed(catalog.installed())}
    known = catalog.entries()
    for entry in known.values():
        print(f"{entry.name}: {entry.about}")
        print(f"    {entry.size}x{entry.size}, {entry.steps} steps; licence: {entry.licence}")
        if entry.name not in here:
            print(f"    not on disk; get it with: {catalog.how_to_get(entry)}")
        else:
            print(f"    {_state(here[entry.name])}")
    for name, folder in here.items():
        if name not in known:
            print(f"{name}: converted here\n    {_state(folder)}")
    return _verify(here.values()) if options.verify else 0


def _state(folder: Path) -> str:
    try:
        return f"on disk: {folder} ({', '.join(Bundle.open(folder).graphs)})"
    except BundleError as error:
        return f"on disk, but cannot be used: {error}"


def _verify(folders: Iterable[Path]) -> int:
    """Name every folder whose files are not those that were exported."""
    exit_code = 0
    for folder in folders:
        try:
            bundle = Bundle.open(folder)
            bundle.verify()
        except BundleError as error:
            tell(f"error: {error}")
            exit_code = 2
        else:
            count = len(bundle.manifest.get("files", {}))
            print(f"{folder}: {count} files are as exported" if count else f"{folder}: no sums")
    return exit_code
