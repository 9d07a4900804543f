"""`pleinair models`: the known models, and which of them are on this machine."""

from collections.abc import Sequence
from pathlib import Path

from .. import families
from ..errors import PleinairError, SettingError
from ..model import catalog
from ..model.bundle import Bundle
from ..text.known_words import KnownWords
from .check import check
from .parser import Parser


def parser() -> Parser:
    made = Parser(
        "pleinair models",
        description="List the known models and say what is on disk.",
    )
    made.add_argument(
        "--check",
        "--verify",
        nargs="*",
        metavar="NAME",
        help="read every file of these models, or of all, again, and compare it with its sha256",
    )
    made.add_argument(
        "--words",
        nargs="?",
        const="",
        metavar="MODEL",
        help="list the words that a small model knows (default: the bundled one's)",
    )
    return made


def models(argv: Sequence[str]) -> int:
    options = parser().parse_args(argv)
    if options.words is not None:
        return _words(catalog.find(options.words) if options.words else catalog.bundled())
    if options.check:
        return check(options.check)
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
    return check([]) if options.check is not None else 0


def _words(folder: Path) -> int:
    """What a model's vocabulary.json lists, a name a line."""
    bundle = Bundle.open(folder)
    vocabulary = KnownWords.of(bundle.path)
    if vocabulary is None:
        raise SettingError(f"{bundle.name} lists no words: any may be asked of it")
    print(f"{vocabulary.model} knows {vocabulary.summary}")
    for kind, names in vocabulary.names.items():
        print(f"\n{kind}:")
        for name, others in names.items():
            print(f"    {', '.join((name, *others))}")
    return 0


def _state(folder: Path) -> str:
    try:
        bundle = families.of(Bundle.open(folder)).bundle
        return f"on disk: {folder} ({', '.join(bundle.graphs)})"
    except PleinairError as error:
        return f"on disk, but cannot be used: {error}"
