"""A model brought to where it is painted from: off the hub, or by hand from a folder or file."""

import importlib.util
import json
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BundleError, ExportError, SourceError, to_install
from ..families import check_named
from ..files import read_json, replacing
from ..model.bundle import Bundle
from ..model.manifest import describe
from . import selection, transfer
from .folders import alone, require_space, sync, sync_directory
from .repository import File, Repository, look
from .repository import cached as cached_copy
from .selection import INDEX

_NOTE = "pleinair.json"  # our manifest: says of a folder where it came from, and what is in it
_MARGIN = 64_000_000
_PATIENCE = 20  # seconds that an interrupted conversion has for tidying up
_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:/([^/]+\.(?:safetensors|ckpt)))?")


@dataclass(frozen=True)
class Order:
    """What is to be fetched from where to where.

    ready_made: the files are a converted model; else a checkpoint, to be converted.
    """

    repository: Repository
    files: tuple[File, ...]
    ready_made: bool
    target: Path

    @property
    def staging(self) -> Path:
        """A folder beside the target, of one commit: what is in it is not fetched again."""
        commit = self.repository.commit[:12]
        return self.target.with_name(f".{self.target.name}.{commit}.fetching")

    @property
    def size(self) -> int:
        return sum(file.size or 0 for file in self.files)

    @property
    def missing(self) -> int:
        """Bytes that are still to come."""
        return transfer.missing(self.files, self.staging)


def placed(hub_id: str, target: Path, revision: str | None = None) -> Order:
    """Ask the hub for "owner/name", or "owner/name/FILE", and choose the files to fetch.

    Raises `SourceError` (`UnreachableError` without a network) when there is none that can be used,
    or the package that converts it is missing; `ExportError` when `target` exists or its disk is
    too small.
    """
    repo_id, file = split_id(hub_id)
    refuse_existing(target)
    repository = look(repo_id, revision)
    paths = repository.paths
    ready_made = file is None and selection.is_ready_made(paths)
    if ready_made:
        chosen = selection.ready_made(paths)
    elif file is None and INDEX in paths:
        require_converter(hub_id)
        chosen = selection.checkpoint(paths, repo_id, _index(repository))
    else:
        chosen = [selection.single_file(paths, repo_id, file)]
        require_converter(hub_id)
    files = tuple(entry for entry in repository.files if entry.path in chosen)
    order = Order(repository, files, ready_made, target)
    # A converted model is at most as large as its checkpoint, which stays until it is whole.
    converted = 0 if ready_made else order.size
    require_space(target, order.missing + converted + _MARGIN)
    return order


def _index(repository: Repository) -> dict[str, Any]:
    """What the model_index.json of a repository says."""
    files = [file for file in repository.files if file.path == INDEX]
    with tempfile.TemporaryDirectory() as folder:
        transfer.fetch(repository, files, Path(folder), lambda name, come: None)
        return selection.read_index(Path(folder) / INDEX)


def split_id(hub_id: str) -> tuple[str, str | None]:
    """Part "owner/name/FILE" into the repository's id and the file, None where none is named."""
    found = _ID.fullmatch(hub_id)
    if found is None:
        raise SourceError(
            f"{hub_id}: no known model, no folder or file here, and no hub id like owner/name; see "
            "the known ones with: pleinair models"
        )
    return found[1], found[2]


def refuse_existing(target: Path) -> None:
    if target.exists():
        raise ExportError(f"{target} exists and is left as it is; give another folder")


def require_converter(name: str) -> None:
    """Raise `SourceError`, with the command that installs it, where the exporter cannot run."""
    for package in ("torch", "diffusers", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise SourceError(
                f"{name} is a checkpoint that has to be converted, for which {package} is missing; "
                f"install it with: {to_install('export')}"
            )


def fetch(order: Order, report: transfer.Report) -> None:
    """Bring the files into the staging folder, the small one that says what it is first.

    Killed or broken off, it goes on from there when called again. Raises what `transfer.fetch`
    does, `BundleError` when the model is of a kind that cannot be painted with.
    """
    try:
        order.staging.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"cannot write beside {order.target}: {error.strerror}") from error
    with alone(order.staging.absolute(), "pull"):
        index = [file for file in order.files if file.path == INDEX]
        transfer.fetch(order.repository, index, order.staging, report)
        if index and order.ready_made:
            _check_kind(order)
        transfer.fetch(order.repository, order.files, order.staging, report)
        if not (order.staging / _NOTE).is_file():
            _write_note(order)


def _check_kind(order: Order) -> None:
    try:
        check_named(order.staging, read_json(order.staging / "model_index.json"))
    except BundleError as error:
        shutil.rmtree(order.staging, ignore_errors=True)
        raise SourceError(f"{order.repository.name} cannot be used: {error}") from error


def _write_note(order: Order) -> None:
    """Note the source and every file's sum, by which `pleinair models --check` checks them."""
    repository, folder = order.repository, order.staging
    content = {
        "format_version": 1,
        "source": {"kind": "hub", "name": repository.name, "revision": repository.commit},
        "files": {file.path: describe(folder / file.path, file.sha256) for file in order.files},
    }
    _write_json(folder / _NOTE, content)


def publish(order: Order) -> None:
    """Open a fetched ready-made model, and put it in its place.

    Raises `BundleError` when it cannot be opened; what was fetched stays.
    """
    try:
        Bundle.open(order.staging)
    except BundleError as error:
        raise BundleError(f"{error} (what was fetched stays in {order.staging})") from error
    _rename(order.staging, order.target)
    tidy(order)


def convert(order: Order) -> int:
    """Convert a fetched checkpoint; return the converter's exit code, 0 when all went well."""
    single = [file for file in order.files if selection.is_single_file(file.path)]
    source = order.staging / single[0].path if single else order.staging
    code = run_converter(str(source), order.target)
    if code == 0:
        tidy(order)
    return code


def tidy(order: Order) -> None:
    """Remove the staging folders of this target: of this commit, and of earlier ones."""
    for left in order.target.parent.glob(f".{order.target.name}.*.fetching"):
        shutil.rmtree(left, ignore_errors=True)


def run_converter(source: str, target: Path, *options: str) -> int:
    """Run pleinair-export in a process of its own, since nothing here may load torch."""
    command = [sys.executable, "-m", "pleinair.export", source, str(target), *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as converter:
        try:
            return converter.wait()
        except KeyboardInterrupt:
            # Ctrl-C in a terminal reaches both; it tidies up, and is told only if it was not.
            try:
                converter.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                converter.terminate()
            raise


def copy(folder: Path, target: Path) -> None:
    """Copy a ready-made model from a folder, opened and with its sums checked, whole or not at all.

    Raises `BundleError` when it cannot be used, `ExportError` when it cannot be written.
    """
    refuse_existing(target)
    files = [path for path in folder.rglob("*") if path.is_file()]
    require_space(target, sum(path.stat().st_size for path in files) + _MARGIN)
    partial = target.with_name(f".{target.name}.copying-{secrets.token_hex(4)}")
    try:
        hidden = shutil.ignore_patterns(".*")  # what version control and hub clients keep
        shutil.copytree(folder, partial, ignore=hidden)
        Bundle.open(partial).verify()
        _rename(partial, target)
    except OSError as error:
        raise ExportError(f"cannot copy {folder} to {target}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def is_ready_made(folder: Path) -> bool:
    """Tell whether a folder on this machine holds a converted model."""
    return selection.is_ready_made({p.relative_to(folder).as_posix() for p in folder.rglob("*")})


def cached(hub_id: str, revision: str | None) -> Path | None:
    """Return the whole copy of a model in the hub's cache, for times without a network."""
    repo_id, _ = split_id(hub_id)
    return cached_copy(repo_id, revision, _openable)


def _openable(files: list[str], repo_id: str, index: Mapping[str, Any]) -> list[str]:
    if selection.is_ready_made(files):
        return selection.ready_made(files)
    return selection.checkpoint(files, repo_id, index)


def _rename(folder: Path, target: Path) -> None:
    sync(folder)
    refuse_existing(target)
    folder.rename(target)
    sync_directory(target.parent)


def _write_json(path: Path, content: Any) -> None:
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")
