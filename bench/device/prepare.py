"""What is carried to the machine with the GPU: wheels and training data, cut into pieces."""

import argparse
import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pleinair.runtime.errors import SettingError

from . import wheels

FOLDER = Path("bench") / "work" / "device"
MANIFEST = "pieces.json"
_PIECE = 58  # MB
_WORK = Path("models") / "pocket" / "training" / "work"
ICONS, STATE = "icons.npz", "diffusion.pt"


def add_to(commands: Any) -> None:
    about = "pack what a bare machine with an NVIDIA GPU needs, for bench/device/run.py there"
    parser = commands.add_parser("device", help=about, description=about)
    parser.add_argument("--output", type=Path, default=FOLDER, help=f"default: {FOLDER}")
    parser.add_argument(
        "--piece", type=int, default=_PIECE, help=f"MB that a piece has at most (default: {_PIECE})"
    )
    parser.add_argument("--python", default="3.12", help="Python's version there (default: 3.12)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if options.piece < 1:
        raise SettingError(f"piece is {options.piece}; give 1 or more")
    data = [_WORK / ICONS, *_WORK.glob(STATE)]
    if not data[0].is_file():
        raise SettingError(
            f"{data[0]} is missing; draw it with: python -m models.pocket.training.data"
        )
    options.output.mkdir(parents=True, exist_ok=True)
    for old in options.output.glob("piece-*"):
        old.unlink()
    with tempfile.TemporaryDirectory(dir=options.output) as scratch:
        wheels.download(Path(scratch), options.python)
        files = [*sorted(Path(scratch).glob("*.whl")), *map(_compressed, data)]
        pieces = dict(cut(packed(files, Path(scratch)), options.output, options.piece * 1_000_000))
    text = json.dumps({"python": options.python, "pieces": pieces}, indent=1)
    (options.output / MANIFEST).write_text(text, encoding="utf-8")
    for name, facts in pieces.items():
        print(options.output / name, f"{facts['size'] / 1e6:.0f} MB")
    print(options.output / MANIFEST)
    return 0


def _compressed(file: Path) -> tuple[str, bytes] | Path:
    """Renders are stored as they are for quick reading: packed, they are an eighth of it."""
    if file.suffix != ".npz":
        return file
    import numpy as np

    buffer = io.BytesIO()
    with np.load(file) as arrays:
        np.savez_compressed(buffer, **arrays)
    return file.name, buffer.getvalue()


def packed(files: list[Any], scratch: Path) -> Path:
    """One archive of the files; wheels are compressed by themselves."""
    archive = scratch / "package.tar"
    with tarfile.open(archive, "w") as tar:
        for file in files:
            if isinstance(file, Path):
                tar.add(file, file.name)
                continue
            entry = tarfile.TarInfo(file[0])
            entry.size = len(file[1])
            tar.addfile(entry, io.BytesIO(file[1]))
    return archive


def cut(file: Path, folder: Path, most: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Write a file in pieces of `most` bytes; name, and size and digest, of each."""
    with file.open("rb") as whole:
        number = 0
        while content := whole.read(most):
            number += 1
            name = f"piece-{number:02d}"
            (folder / name).write_bytes(content)
            yield name, {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
