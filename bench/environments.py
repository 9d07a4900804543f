"""Environments for the other systems, whose libraries do not fit into one: made by one command."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pleinair.runtime.errors import EngineError, SettingError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path("bench") / "work" / "environments"
_REQUIREMENTS = "requirements.txt"


@dataclass(frozen=True)
class Environment:
    """What one holds: systems by their files' names, pip's requirements, and what those need."""

    name: str
    systems: Sequence[str]
    requirements: Sequence[str]
    needs: str = ""

    @property
    def text(self) -> str:
        return "".join(f"{line}\n" for line in self.requirements)


def known() -> dict[str, Environment]:
    """Those of environments.toml, by name."""
    text = (Path(__file__).parent / "environments.toml").read_text(encoding="utf-8")
    return {name: Environment(name, **facts) for name, facts in tomllib.loads(text).items()}


def add_to(commands: Any) -> None:
    about = "make an environment for each of the systems to compare with"
    parser = commands.add_parser("environments", help=about, description=about)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"any of {', '.join(known())} (default: all)",
    )
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help=f"where they are kept (default: {FOLDER})"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    everything = known()
    for name in options.names:
        if name not in everything:
            raise SettingError(f"no environment {name!r}; there are: {', '.join(everything)}")
    wanted = [everything[name] for name in dict.fromkeys(options.names or everything)]
    failures = []
    for environment in wanted:
        try:
            print(make(environment, options.folder))
        except EngineError as error:
            failures.append(f"{environment.name}: {error}")
    if failures:
        raise EngineError(f"not made: {'; '.join(failures)}")
    return 0


def make(environment: Environment, folder: Path) -> Path:
    """The Python of the environment `folder`/NAME, made there if it is not yet.

    It appears whole or not at all. Raises EngineError where pip fails, and where the folder holds
    an environment of other requirements.
    """
    target = folder / environment.name
    if target.exists():
        made = target / _REQUIREMENTS
        if made.is_file() and made.read_text(encoding="utf-8") == environment.text:
            return python_of(target)
        raise EngineError(f"{target} exists with other requirements; remove it to make it anew")
    folder.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder, prefix=f".{environment.name}-"))
    try:
        print(f"{environment.name}: {', '.join(environment.requirements)}", file=sys.stderr)
        venv.create(partial, with_pip=True, symlinks=os.name != "nt")
        _install(partial, environment)
        (partial / _REQUIREMENTS).write_text(environment.text, encoding="utf-8", newline="\n")
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return python_of(target)


def _install(folder: Path, environment: Environment) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / _REQUIREMENTS
        file.write_text(environment.text, encoding="utf-8")
        # The environment is renamed when it is whole, so pip is called as a module: scripts would
        # keep the old path.
        command = [str(python_of(folder)), "-m", "pip", "install", "--requirement", str(file)]
        done = subprocess.run(command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines or ["no word"]
        hint = f" (it needs {environment.needs})" if environment.needs else ""
        raise EngineError(f"pip failed{hint}: {errors[-1].strip()[:300]}")


def python_of(folder: Path) -> Path:
    """An environment's interpreter."""
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--environment and --environments: where the interpreters of other systems are."""
    parser.add_argument(
        "--environment",
        nargs="+",
        default=[],
        metavar="NAME=PYTHON",
        help="interpreters of environments that are here already, as optimum=/…/bin/python",
    )
    parser.add_argument(
        "--environments",
        type=Path,
        default=FOLDER,
        metavar="FOLDER",
        help="where `environments` made the others",
    )


def interpreters(folder: Path, named: Sequence[str]) -> dict[str, str]:
    """System -> the Python that has it, of environments made in `folder` or named.

    named: NAME=PYTHON, an environment and the path of its interpreter. A system without one is
    looked for in our own environment. Raises SettingError where a name or a path is wrong.
    """
    everything = known()
    paths = {name: python_of(folder / name) for name in everything}
    paths = {name: path for name, path in paths.items() if path.is_file()}
    for text in named:
        name, _, path = text.partition("=")
        if name not in everything:
            raise SettingError(f"no environment {name!r}; there are: {', '.join(everything)}")
        if not Path(path).is_file():
            raise SettingError(f"{text}: give NAME=PYTHON, the path of the interpreter")
        paths[name] = Path(path)
    return {
        system: str(path.absolute())
        for name, path in paths.items()
        for system in everything[name].systems
    }
