"""Fetching a diffusers folder from the hub: only the files needed, cached, resumable."""

from pathlib import Path
from typing import Any

from pleinair.runtime.errors import SourceError

from .architecture import CLASSES

_ALWAYS = ("model_index.json", "scheduler/", "tokenizer/")

# Preferred first: no pickles where safetensors are, full precision before half.
_WEIGHTS = tuple(
    f"{stem}{variant}.{suffix}"
    for suffix in ("safetensors", "bin")
    for variant in ("", ".fp16")
    for stem in ("diffusion_pytorch_model", "model", "pytorch_model")
)


def fetch(repo_id: str, revision: str | None) -> tuple[Path, str]:
    """Return the folder of `repo_id` in huggingface_hub's cache, and its commit.

    Files already there are not fetched again and broken transfers go on where they stopped.
    `HF_ENDPOINT`, `HF_HUB_OFFLINE`, `HF_TOKEN` and `HF_HOME` work as everywhere. Raises
    `SourceError` when there is no such repository, no network, or no Stable Diffusion in it.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        names = _listing(HfApi(), repo_id, revision)
        folder = snapshot_download(repo_id, revision=revision, allow_patterns=names)
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
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise SourceError(_by_hand(repo_id, error)) from error
    except Exception as error:
        if not _is_transport(error):
            raise
        raise SourceError(_by_hand(repo_id, error)) from error
    return Path(folder), Path(folder).name


def _listing(api: Any, repo_id: str, revision: str | None) -> list[str]:
    """Return the names of the files to fetch; offline, patterns for all that may be cached."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return [f"{name}*" for name in (*_ALWAYS, *(f"{sub}/" for sub in CLASSES))]
    return choose(api.list_repo_files(repo_id, revision=revision), repo_id)


def choose(files: list[str], repo_id: str) -> list[str]:
    """Return those of a repository's files that an export reads."""
    if "model_index.json" not in files:
        raise SourceError(
            f"{repo_id} has no model_index.json, so it is no diffusers folder; download its "
            ".safetensors or .ckpt file and pass the path"
        )
    chosen = [name for name in files if name.startswith(_ALWAYS)]
    for submodel in CLASSES:
        chosen.append(f"{submodel}/config.json")
        chosen += _weights(files, submodel, repo_id)
    return chosen


def _weights(files: list[str], submodel: str, repo_id: str) -> list[str]:
    for name in _WEIGHTS:
        if f"{submodel}/{name}" in files:
            return [f"{submodel}/{name}"]
        stem, suffix = name.removesuffix(".fp16"), name.rpartition(".")[2]
        shards = _shards(files, submodel, stem.removesuffix(f".{suffix}"), suffix)
        if shards:
            return shards
    raise SourceError(f"{repo_id} has no weights in {submodel}/")


def _shards(files: list[str], submodel: str, stem: str, suffix: str) -> list[str]:
    """Return an index and its shards: `stem.safetensors.index.json`, `stem-00001-of-00002…`."""
    base, _, variant = stem.partition(".")
    variant = f".{variant}" if variant else ""
    index = f"{submodel}/{base}.{suffix}.index{variant}.json"
    if index not in files:
        return []
    parts = [f for f in files if f.startswith(f"{submodel}/{base}") and "-of-" in f]
    return [index, *(f for f in parts if f.endswith(suffix) and (variant in f))]


def _is_transport(error: Exception) -> bool:
    # huggingface_hub has raised the errors of requests, of httpx and of its successor; naming
    # their modules spares importing whichever of them is not installed.
    return isinstance(error, OSError) or type(error).__module__.split(".")[0].startswith("httpx")


def _by_hand(repo_id: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()
    return (
        f"cannot fetch {repo_id} ({reason[0] if reason else type(error).__name__}); on a machine "
        f"with a network run `hf download {repo_id} --local-dir FOLDER`, copy FOLDER here and pass "
        "its path instead of the name (or set HF_ENDPOINT to a mirror)"
    )
