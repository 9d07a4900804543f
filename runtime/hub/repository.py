"""A repository on the hub, asked what it holds; and the hub's refusals in plain words."""

import importlib.util
import socket
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from ..errors import SourceError, to_install
from .selection import INDEX, read_index

Wanted: TypeAlias = Callable[[list[str], str, Mapping[str, Any]], list[str]]
"""Of a repository's files, its id and its model_index.json ({} where it has none), the files to
fetch; SourceError where they are not all there.
"""


class UnreachableError(SourceError):
    """The hub cannot be reached, or the transfer broke off: a network's matter."""


@dataclass(frozen=True)
class File:
    """One file of a repository; what the hub does not say of it is None.

    path: its name, with "/" between folders.
    size: its bytes.
    sha256: of its content, for the large files that are not kept in git.
    blob: git's name of its content, for the small ones.
    """

    path: str
    size: int | None
    sha256: str | None
    blob: str | None


@dataclass(frozen=True)
class Repository:
    """What a repository holds at one commit."""

    name: str
    commit: str
    licence: str
    files: tuple[File, ...]

    @property
    def paths(self) -> list[str]:
        return [file.path for file in self.files]


def look(repo_id: str, revision: str | None = None) -> Repository:
    """Ask the hub, `HF_ENDPOINT`'s where that is set, what a repository holds.

    Raises `UnreachableError` without a network or where `HF_HUB_OFFLINE` is set, `SourceError` when
    the package huggingface_hub, the repository or the revision is missing, or may not be seen.
    """
    require_client()
    from huggingface_hub import HfApi, constants

    with plainly(repo_id, revision):
        if constants.HF_HUB_OFFLINE:
            raise UnreachableError(by_hand(repo_id, "HF_HUB_OFFLINE is set"))
        knock(constants.ENDPOINT)
        api = HfApi(endpoint=constants.ENDPOINT)
        found = api.model_info(repo_id, revision=revision, files_metadata=True)
    files = tuple(_file(sibling, repo_id) for sibling in found.siblings or ())
    return Repository(repo_id, found.sha or revision or "main", _licence(found.card_data), files)


def cached(repo_id: str, revision: str | None, wanted: Wanted) -> Path | None:
    """Return the repository's copy in huggingface_hub's cache, None where it is not whole."""
    from huggingface_hub import constants, snapshot_download

    try:
        found = snapshot_download(
            repo_id,
            revision=revision,
            cache_dir=constants.HF_HUB_CACHE,
            allow_patterns=INDEX,
            local_files_only=True,
        )
        folder = Path(found)
        files = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
        index = read_index(folder / INDEX) if INDEX in files else {}
        return folder if set(wanted(files, repo_id, index)) <= set(files) else None
    except (OSError, SourceError):
        return None


def require_client() -> None:
    """Raise `SourceError`, with the command that installs it, where huggingface_hub is missing."""
    if importlib.util.find_spec("huggingface_hub") is None:
        raise SourceError(
            "fetching models needs the package huggingface_hub; install it with: "
            f"{to_install('hub')}"
        )


def _file(sibling: Any, repo_id: str) -> File:
    path = sibling.rfilename
    parts = PurePosixPath(path).parts
    if ".." in parts or path.startswith("/") or PureWindowsPath(path).drive or "\\" in path:
        raise SourceError(f"{repo_id} lists a file {path!r} outside its folder; it is refused")
    lfs = sibling.lfs
    return File(
        path,
        lfs.size if lfs else sibling.size,
        lfs.sha256 if lfs else None,
        None if lfs else sibling.blob_id,
    )


def _licence(card: Any) -> str:
    """Return the licence that a model's card names, and where it is to be read."""
    card = card or {}
    name = card.get("license_name") or card.get("license") or "not stated"
    name = ", ".join(name) if isinstance(name, list) else str(name)
    link = card.get("license_link")
    return f"{name} ({link})" if link else name


@contextmanager
def plainly(repo_id: str, revision: str | None) -> Iterator[None]:
    """Turn what huggingface_hub raises into `SourceError`, and a network's failures into
    `UnreachableError`.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        raise SourceError(
            f"{repo_id} is gated: accept its licence on the hub, then run `hf auth login` or set "
            "HF_TOKEN"
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
        reason = str(error).strip().splitlines()
        raise UnreachableError(
            by_hand(repo_id, reason[0] if reason else type(error).__name__)
        ) from error


def knock(endpoint: str) -> None:
    """Raise `OSError` at once where huggingface_hub would try again for half a minute."""
    if urllib.request.getproxies():
        return  # the way out is the proxy's, which only the client knows
    parts = urlsplit(endpoint)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=10).close()
    except OSError as error:
        raise OSError(f"no connection to {endpoint}: {error.strerror or error}") from error


def by_hand(repo_id: str, reason: str) -> str:
    """Say what to do where the hub is out of reach."""
    return (
        f"cannot fetch {repo_id} ({reason}); run again to go on, or on another machine "
        f"`hf download {repo_id} --local-dir FOLDER`, bring FOLDER here and pass its path instead "
        "(HF_ENDPOINT chooses a mirror)"
    )


def _is_transport(error: Exception) -> bool:
    # huggingface_hub has raised the errors of requests, of httpx and of its successor; naming
    # their modules spares importing whichever of them is not installed.
    return isinstance(error, OSError) or type(error).__module__.split(".")[0].startswith("httpx")
