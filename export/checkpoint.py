"""A checkpoint, opened: a diffusers folder, a hub id, or one file of the original layout."""

from pathlib import Path
from typing import Any

from pleinair.runtime.errors import SourceError
from pleinair.runtime.hub import selection

from . import families
from .families.family import Index
from .part import Completed, open_part
from .single_file import SingleFile
from .source import Checkpoint, ControlNetFolder, DiffusersFolder, fetched_from, is_hub_id


def open_checkpoint(
    source: str | Path,
    revision: str | None = None,
    *,
    vae: str | Path | None = None,
    text_encoder: str | Path | None = None,
    unet: str | Path | None = None,
    ema: bool = False,
    prediction_type: str | None = None,
    config: str | Path | None = None,
    safety_checker: bool = True,
) -> Checkpoint | ControlNetFolder:
    """Find `source`, fetching it first when it is a hub id; without its safety checker if told so.

    The options are `export_model`'s. Raises `SourceError` when it is none of the three kinds, or
    cannot be fetched or read.
    """
    path = Path(source).expanduser()
    checkpoint: Checkpoint | ControlNetFolder
    if path.is_file():
        checkpoint = SingleFile(
            path, ema, prediction_type, Path(config).expanduser() if config else None
        )
        checkpoint.record = fetched_from(path) or checkpoint.record
    elif ema or prediction_type or config:
        raise SourceError(
            f"{source} is no single file: its weights and its scheduler_config.json say what "
            "--ema, --prediction-type and --config would; leave them out"
        )
    else:
        checkpoint = _diffusers_folder(path, str(source), revision, safety_checker)
    given = {"vae": vae, "text_encoder": text_encoder, "unet": unet}
    chosen = {name: Path(value).expanduser() for name, value in given.items() if value is not None}
    if not chosen:
        return checkpoint
    if isinstance(checkpoint, ControlNetFolder):
        raise SourceError(f"{source} is a ControlNet, with no parts to replace; leave them out")
    parts = {name: open_part(name, at, checkpoint) for name, at in chosen.items()}
    return Completed(checkpoint, parts)


def _diffusers_folder(
    path: Path, source: str, revision: str | None, safety_checker: bool
) -> DiffusersFolder | ControlNetFolder:
    if path.is_dir():
        kept = {"kind": "folder", "name": path.resolve().name}
        return _folder(path, fetched_from(path / "model_index.json") or kept)
    if is_hub_id(source) and path.suffix not in {".safetensors", ".ckpt"}:
        from . import hub

        def wanted(files: list[str], repo_id: str, index: Index) -> list[str]:
            if index:
                families.of(index, repo_id)  # refused before its weights are fetched
            chosen: list[str] = selection.checkpoint(
                files, repo_id, index, safety_checker=safety_checker
            )
            return chosen

        folder, commit = hub.fetch(source, revision, wanted)
        return _folder(folder, {"kind": "hub", "name": source, "revision": commit})
    raise SourceError(
        f"{source} is neither a diffusers folder, nor a .safetensors or .ckpt file, nor a hub id "
        "like owner/name"
    )


def _folder(path: Path, record: dict[str, Any]) -> DiffusersFolder | ControlNetFolder:
    """A pipeline's folder has an index, a single model's only its config."""
    alone = (path / "config.json").is_file() and not (path / "model_index.json").is_file()
    return ControlNetFolder(path, record) if alone else DiffusersFolder(path, record)
