"""Fetching a diffusers folder from the hub: only the files needed, cached, resumable."""

from pathlib import Path

from pleinair.runtime.hub.repository import UnreachableError, Wanted, cached, knock, plainly
from pleinair.runtime.hub.selection import INDEX, checkpoint, read_index


def fetch(repo_id: str, revision: str | None, wanted: Wanted = checkpoint) -> tuple[Path, str]:
    """Return the folder of `repo_id` in huggingface_hub's cache, and its commit.

    `wanted` chooses among the files.
    Files already there are not fetched again and broken transfers go on where they stopped.
    `HF_ENDPOINT`, `HF_HUB_OFFLINE`, `HF_TOKEN` and `HF_HOME` work as everywhere. Raises
    `SourceError` when there is no such repository, no Stable Diffusion in it, or neither a
    network nor a whole copy in the cache.
    """
    try:
        with plainly(repo_id, revision):
            folder = _download(repo_id, revision, wanted)
    except UnreachableError:
        found = cached(repo_id, revision, wanted)
        if found is None:
            raise
        folder = found
    return folder, folder.name


def _download(repo_id: str, revision: str | None, wanted: Wanted) -> Path:
    from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download

    if not constants.HF_HUB_OFFLINE:
        knock(constants.ENDPOINT)
    files = HfApi().list_repo_files(repo_id, revision=revision)
    index = {}
    if INDEX in files:
        index = read_index(Path(hf_hub_download(repo_id, INDEX, revision=revision)))
    chosen = wanted(files, repo_id, index)
    return Path(snapshot_download(repo_id, revision=revision, allow_patterns=chosen))
