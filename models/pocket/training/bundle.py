"""Export the trained checkpoint and put the result into `models/pocket`, in place of the old."""

import argparse
import shutil
import tempfile
from pathlib import Path

from pleinair.export import export_model
from pleinair.runtime.bundle import Bundle

from . import WORK

POCKET = Path(__file__).parents[1]
# What stands in models/pocket beside the model itself.
KEPT = {"README.md", "sheet.png", "training"}


def bundle(checkpoint: Path) -> None:
    """The model's own files are replaced as a whole, after the new ones passed their checks."""
    with tempfile.TemporaryDirectory(dir=POCKET.parent) as folder:
        fresh = export_model(checkpoint, Path(folder) / "pocket", precision="fp16")
        Bundle.open(fresh).verify()
        for old in POCKET.iterdir():
            if old.name not in KEPT:
                shutil.rmtree(old) if old.is_dir() else old.unlink()
        for new in fresh.iterdir():
            shutil.move(new, POCKET / new.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=WORK / "checkpoint")
    bundle(parser.parse_args().checkpoint)


if __name__ == "__main__":
    main()
