"""`pleinair models --check`: every file of a model read again, and held against its digest."""

import os
from collections.abc import Sequence
from pathlib import Path

from .. import families
from ..errors import PleinairError
from ..exits import tell
from ..files import read_json
from ..model import catalog
from ..model.bundle import Bundle
from ..model.controlnet import ControlNet
from ..model.manifest import FILE, Manifest
from .progress import TransferBar


def check(names: Sequence[str]) -> int:
    """Check the models or ControlNets of these names, or all on this machine where there are none.

    Says of each in one line that it is whole, or names its first bad file; 2 where one is bad.
    """
    folders = [catalog.find(name) for name in names] or catalog.installed()
    exit_code = 0
    for folder in folders:
        try:
            print(f"{folder}: {_verdict(folder)}")
        except PleinairError as error:
            tell(f"error: {error}")
            exit_code = 2
    return exit_code


def _verdict(folder: Path) -> str:
    """What is known of a folder that is whole; PleinairError where it is not."""
    if os.path.lexists(folder / "model_index.json") or os.path.lexists(folder / "unet.xml"):
        families.of(Bundle.open(folder))
    else:
        ControlNet.open(folder)
    manifest = Manifest.of(folder, read_json(folder / FILE, optional=True))
    if not manifest.files:
        return f"its parts fit each other; what was in its files is not known, without {FILE}"
    total = sum(facts.bytes for facts in manifest.files.values())
    with TransferBar(total, 0) as bar:
        edited = manifest.verify(folder, bar)
    words = f"whole: {len(manifest.files) - len(edited)} files are as exported"
    return f"{words}; edited: {', '.join(edited)}" if edited else words
