"""Fetching a diffusers folder from the hub: only the files needed, cached, resumable."""

import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from pleinair.runtime.errors import SourceError

from .architecture import CLASSES
from .weights import choose

_ALWAYS = ("model_index.json", "scheduler/", "tokenizer/")

Wanted = Callable[[list[str], str], list[str]]
"""Of a repository's files, and its id, those to fetch."""


def fetch(repo_id: str, revision: str | None, wanted: Wanted | None = None) -> tuple[Path, str]:
    """Return the folder of `repo_id` in huggingface_hub's cache, and its commit.

    `wanted` chooses among the files; None is `needed`.
    Files already there are not fetched again and broken transfers go on where they stopped.
    `HF_ENDPOINT`, `HF_HUB_OFFLINE`, `HF_TOKEN` and `HF_HOME` work as everywhere. Raises
    `SourceError` when there is no such repository, no Stable Diffusion in it, or neither a
    network nor a whole copy in the cache.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        folder = _download(repo_id, revision, wanted or needed)
    except GatedRepoError as error:
        raise SourceError(
            f"{repo_id} is gated: accept its licence on the hub, then run `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise SourceError(f"{repo_id} has no revision {revision}") from error
    except RepositoryNotFoundError as error:
        raise SourceError(
            f"the hub has no {repo_id}, or it is private; check the name, or run `hf auth login`"
        ) from error
    except Exception as error:
        if not _is_transport(error):
            raise
        folder = _cached(repo_id, revision, wanted or needed)
        if folder is None:
            raise SourceError(_by_hand(repo_id, error)) from error
    return folder, folder.name


def _download(repo_id: str, revision: str | None, wanted: Wanted) -> Path:
    from huggingface_hub import HfApi, constants, snapshot_download

    if not constants.HF_HUB_OFFLINE:
        _knock(constants.ENDPOINT)
    files = HfApi().list_repo_files(repo_id, revision=revision)
    chosen = wanted(files, repo_id)
    return Path(snapshot_download(repo_id, revision=revision, allow_patterns=chosen))


def _knock(endpoint: str) -> None:
    """Raise `OSError` at once where huggingface_hub would try again for half a minute."""
    if urllib.request.getproxies():
        return  # the way out is the proxy's, which only the client knows
    parts = urlsplit(endpoint)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=10).close()
    except OSError as error:
        raise OSError(f"no connection to {endpoint}: {error.strerror or error}") from error


def needed(files: list[str], repo_id: str) -> list[str]:
    """Return those of a repository's files that an export reads: of each weight, one copy."""
    chosen = needed_without_checker(files, repo_id)
    if any(name.startswith("safety_checker/") for name in files):
        chosen += _submodel("safety_checker", files, repo_id)
        chosen += [name for name in files if name.startswith("feature_extractor/")]
    return chosen


def needed_of_one(files: list[str], repo_id: str) -> list[str]:
    """As `needed`, where one sub-model is the whole repository."""
    return ["config.json", *choose([name for name in files if "/" not in name], repo_id)]


def needed_without_checker(files: list[str], repo_id: str) -> list[str]:
    """As `needed`, for an export without the safety checker."""
    if "model_index.json" not in files:
        raise SourceError(
            f"{repo_id} has no model_index.json, so it is no diffusers folder; download its "
            ".safetensors or .ckpt file and pass the path"
        )
    chosen = [name for name in files if name.startswith(_ALWAYS)]
    for submodel in CLASSES:
        chosen += _submodel(submodel, files, repo_id)
    return chosen


def _submodel(submodel: str, files: list[str], repo_id: str) -> list[str]:
    inside = [name.removeprefix(f"{submodel}/") for name in files if f"{submodel}/" in name]
    weights = choose(inside, f"{repo_id}/{submodel}")
    return [f"{submodel}/{name}" for name in ("config.json", *weights)]


def _cached(repo_id: str, revision: str | None, wanted: Wanted) -> Path | None:
    """Return the cached copy if it is whole."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        found = snapshot_download(
            repo_id, revision=revision, allow_patterns="model_index.json", local_files_only=True
        )
        folder = Path(found)
        files = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
        whole = set(wanted(files, repo_id)) <= set(files)
    except (LocalEntryNotFoundError, SourceError):
        return None
    return folder if whole else None


def _is_transport(error: Exception) -> bool:
    # huggingface_hub has raised the errors of requests, of httpx and of its successor; naming
    # their modules spares importing whichever of them is not installed.
    return isinstance(error, OSError) or type(error).__module__.split(".")[0].startswith("httpx")


def _by_hand(repo_id: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()
    return (
        f"cannot fetch {repo_id} ({reason[0] if reason else type(error).__name__}); run again to "
        f"go on, or on another machine `hf download {repo_id} --local-dir FOLDER`, bring FOLDER "
        "here and pass its path instead (HF_ENDPOINT chooses a mirror)"
    )
