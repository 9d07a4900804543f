"""Checkpoints given where a model folder is expected: converted once, and found again.

A conversion lies in the user's model folder under the checkpoint's name and a few digits of its
content, so that another file of the same name is another model, and a moved one the same.
"""

import contextlib
import hashlib
import importlib.util
import json
import logging
import os
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from ..errors import BundleError, PleinairError, SourceError
from ..files import conform, read_json, replacing
from ..model import catalog
from . import pull
from .selection import INDEX

_log = logging.getLogger("pleinair")

# Whose content has been read, so that gigabytes are read again only where a file has changed.
_KNOWN = "converted.json"
_DIGITS = 12
_BESIDE = (".yaml", ".yml", ".json")
_SUFFIXES = (".ckpt", ".safetensors", ".pt", ".pth", ".bin")


class _File(msgspec.Struct):
    bytes: int
    modified: int
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class _Files(msgspec.Struct):
    files: dict[str, _File] = msgspec.field(default_factory=dict)


def folder_of(name: str | Path, format: str = "openvino", config: Path | None = None) -> Path:
    """The model folder that a name stands for: a path, a catalog name, a hub id, a checkpoint.

    A checkpoint is a file of the original layout, a folder of diffusers', or a hub id whose whole
    copy is in the hub's cache here; it is converted, where it was not before, and a line says so.
    config: a file's `.yaml`, where it lies elsewhere than beside it.
    Raises `BundleError` where there is nothing of that name, `SourceError` where it is a checkpoint
    that cannot be converted here.
    """
    path = Path(name).expanduser()
    if path.is_file() or _is_checkpoint(path):
        return _converted(path, format, config=config if path.is_file() else None)
    if path.suffix.lower() in _SUFFIXES:
        raise BundleError(f"{name}: no such file; give the path of the checkpoint")
    try:
        return catalog.find(name)
    except BundleError:
        copy = _cached(str(name))
        if copy is None:
            raise
        return copy if pull.is_ready_made(copy) else _converted(copy, format, str(name))


def _is_checkpoint(path: Path) -> bool:
    """Whether a folder is one of diffusers', with PyTorch's weights alone."""
    return (path / INDEX).is_file() and not pull.is_ready_made(path)


def _cached(name: str) -> Path | None:
    entry = catalog.known(name)
    hub_id = entry.source if entry else name
    if hub_id.count("/") != 1 or importlib.util.find_spec("huggingface_hub") is None:
        return None
    with contextlib.suppress(PleinairError, ValueError):  # of names that are no hub id
        return pull.cached(hub_id, None)
    return None


def _converted(source: Path, format: str, name: str = "", config: Path | None = None) -> Path:
    """The conversion of a checkpoint, made where it is not there yet."""
    models = catalog.user_folder()
    if config is not None and not config.is_file():
        _log.info("%s is no file here; the checkpoint alone says what it is", config)
        config = None
    ending = f"-{_digest(source, models, config)[:_DIGITS]}"
    ending += "" if format == "openvino" else f"-{format}"
    for found in sorted(models.glob(f"*{ending}")):
        if (found / INDEX).is_file():
            return found
    pull.require_converter(name or str(source))
    stem = name.rpartition("/")[2] or (source.stem if source.is_file() else source.resolve().name)
    target = models / f"{stem}{ending}"
    _log.info(
        "%s is a checkpoint; it is converted once, which takes some minutes, to %s",
        name or source,
        target,
    )
    options = ["--format", format, *(["--config", os.fspath(config)] if config else [])]
    if pull.run_converter(os.fspath(source.resolve()), target, *options):
        raise SourceError(
            f"{name or source}: not converted, as pleinair-export says above; to give it options: "
            f"pleinair-export {source} NAME"
        )
    return target


def _digest(source: Path, models: Path, config: Path | None) -> str:
    """Of the content of a checkpoint, and of what lies beside a file and is read with it."""
    files = [source]
    if source.is_file():
        files += [source.with_suffix(suffix) for suffix in _BESIDE]
        files += [config] if config else []
    else:
        files = sorted(path for path in source.rglob("*") if not path.name.startswith("."))
    digest = hashlib.sha256()
    known = _known(models)
    for file in files:
        if file.is_file():
            place = "" if source.is_file() else file.relative_to(source).as_posix()
            digest.update(f"{place} {_sha256(file, known)}\n".encode())
    _remember(models, known)
    return digest.hexdigest()


def _sha256(file: Path, known: dict[str, _File]) -> str:
    facts, path = file.stat(), str(file.resolve())
    found = known.get(path)
    if found is None or (found.bytes, found.modified) != (facts.st_size, facts.st_mtime_ns):
        digest = hashlib.sha256()
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
        known[path] = _File(facts.st_size, facts.st_mtime_ns, digest.hexdigest())
    return known[path].sha256


def _known(models: Path) -> dict[str, _File]:
    with contextlib.suppress(BundleError):  # damaged: everything is read again
        content = read_json(models / _KNOWN, optional=True)
        return conform(content, _Files, models / _KNOWN).files
    return {}


def _remember(models: Path, known: dict[str, _File]) -> None:
    with contextlib.suppress(OSError):  # only slower next time
        models.mkdir(parents=True, exist_ok=True)
        with replacing(models / _KNOWN) as part:
            content = msgspec.to_builtins(_Files(known))
            part.write_text(json.dumps(content, indent=1), encoding="utf-8", newline="\n")
