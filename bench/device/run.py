"""On the machine with the GPU: install what was carried there, then go through the session.

Run by a Python that has torch and need have nothing else: python3 bench/device/run.py --output OUT
"""

import argparse
import hashlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tarfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PIECES = ROOT / "bench" / "work" / "device"
WORK = ROOT / "models" / "pocket" / "training" / "work"
DATA = ("icons.npz", "diffusion.pt")


def main() -> int:
    begun = time.time()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="results and checkpoints")
    parser.add_argument("--pieces", type=Path, default=PIECES, help=f"default: {PIECES}")
    parser.add_argument("--minutes", type=float, default=9.0, help="of all together (default: 9)")
    parser.add_argument(
        "--stand-in", action="store_true", help="try it without a GPU: the CPU in its place, small"
    )
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    python = installed(options.pieces, options.stand_in)
    command = [str(python), "-m", "pleinair.bench.device.session"]
    command += ["--output", str(options.output.resolve()), "--begun", repr(begun)]
    command += ["--minutes", str(options.minutes), *(["--stand-in"] if options.stand_in else [])]
    return subprocess.run(command, cwd=ROOT, env=environment()).returncode


def installed(pieces: Path, stand_in: bool) -> Path:
    """The Python of an environment with all that was carried; made once."""
    folder = pieces / "machine"
    python = folder / "venv" / "bin" / "python"
    done = folder / "done"
    if not done.is_file():
        unpack(pieces, folder / "package")
        venv.create(folder / "venv", with_pip=False, clear=True)
        install(python, folder / "package")
        target = next((folder / "venv").glob("lib/python*/site-packages"))
        borrow("torch", target)
        if stand_in:
            line = "import pleinair.bench.device.stand_in as it; it.install()\n"
            (target / "stand_in.pth").write_text(line, encoding="utf-8")
        done.touch()
    return python


def unpack(pieces: Path, folder: Path) -> None:
    """Put the pieces together, check each, and take the archive apart."""
    manifest = json.loads((pieces / "pieces.json").read_text(encoding="utf-8"))
    here = "{}.{}".format(*sys.version_info)
    if manifest["python"] != here:
        sys.exit(f"the pieces are for Python {manifest['python']}, and this is {here}")
    missing = [name for name in manifest["pieces"] if not (pieces / name).is_file()]
    if missing:
        sys.exit(f"{pieces}: not all pieces are here yet: {', '.join(missing)}")
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / "package.tar"
    with archive.open("wb") as whole:
        for name, facts in manifest["pieces"].items():
            content = (pieces / name).read_bytes()
            if hashlib.sha256(content).hexdigest() != facts["sha256"]:
                sys.exit(f"{pieces / name}: damaged; carry it again")
            whole.write(content)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    archive.unlink()
    WORK.mkdir(parents=True, exist_ok=True)
    for name in DATA:
        if (folder / name).is_file() and not (WORK / name).exists():
            (folder / name).rename(WORK / name)


def install(python: Path, folder: Path) -> None:
    """The wheels, and this checkout; pip runs out of its own wheel, which is among them."""
    wheels = sorted(map(str, folder.glob("*.whl")))
    pip = [str(python), f"{next(folder.glob('pip-*.whl'))}/pip", "install", "--quiet", "--no-index"]
    pip += ["--no-deps", "--no-compile", "--no-cache-dir", "--disable-pip-version-check"]
    subprocess.run([*pip, *wheels], check=True)
    subprocess.run([*pip, "--no-build-isolation", "--editable", str(ROOT)], check=True)


def borrow(name: str, target: Path, seen: set[str] | None = None) -> None:
    """Link a distribution of this Python, and what it needs, where another Python finds it."""
    seen = set() if seen is None else seen
    seen.add(name)
    try:
        found = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return
    tops = {Path(file).parts[0] for file in found.files or () if "__pycache__" not in str(file)}
    for top in tops - {".."}:
        if not (target / top).exists():
            (target / top).symlink_to(Path(str(found.locate_file(top))))
    for text in found.requires or ():
        need = re.match(r"[\w.-]+", text)
        if need and "extra ==" not in text and need[0] not in seen:
            borrow(need[0], target, seen)


def environment() -> dict[str, str]:
    """Ours, with the folders of CUDA's libraries where pip has put them for torch."""
    site = Path(str(importlib.metadata.distribution("torch").locate_file("")))
    folders = [*site.glob("nvidia/*/lib"), site / "torch" / "lib"]
    before = os.environ.get("LD_LIBRARY_PATH", "")
    paths = [*map(str, folders), *filter(None, [before])]
    left = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**left, "LD_LIBRARY_PATH": ":".join(paths), "PYTHONUNBUFFERED": "1"}


if __name__ == "__main__":
    sys.exit(main())
