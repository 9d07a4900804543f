"""A stand-in for the hub on 127.0.0.1: the few endpoints that huggingface_hub asks for."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What is served, and what has been asked: (method, path, Range header) of every request."""

    repo_id: str
    folder: Path
    url: str = ""
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    break_after: dict[str, int] = field(default_factory=dict)
    """File name to how many bytes of it are sent before the connection is cut, once."""
    stall_after: dict[str, int] = field(default_factory=dict)
    """File name to how many bytes of it are sent before nothing more comes, once."""
    listed: list[dict[str, object]] | None = None
    """What is listed in place of the files that are there."""
    damaged: set[str] = field(default_factory=set)
    """Files of which other bytes are sent than the hub lists."""
    card: dict[str, str] = field(default_factory=dict)
    """What the model's card says: its licence."""
    token: str | None = None
    """What opens the files, which are gated then."""
    stop: threading.Event = field(default_factory=threading.Event)

    def fetched(self) -> list[str]:
        """The files that were downloaded, in part or whole."""
        paths = [path for method, path, _ in self.requests if method == "GET"]
        resolved = [path for path in paths if "/resolve/" in path]
        return [path.split("/resolve/")[1].split("/", 1)[1] for path in resolved]


@contextmanager
def serving(repo_id: str, folder: Path) -> Iterator[Hub]:
    hub = Hub(repo_id, folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.stop.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, self.headers.get("Range")))
        api = f"/api/models/{self.hub.repo_id}"
        if path.startswith(f"{api}/tree/"):
            self._json([self._entry(file) for file in self._files()])
        elif path == api or path.startswith(f"{api}/revision/"):
            siblings = self.hub.listed or [self._sibling(name) for name in self._files()]
            said = {"id": self.hub.repo_id, "sha": COMMIT, "cardData": self.hub.card}
            self._json(said | {"siblings": siblings})
        elif self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._json({"error": "gated"}, 403, "GatedRepo")
        elif path.startswith(f"/{self.hub.repo_id}/resolve/"):
            self._file(path.split("/resolve/")[1].split("/", 1)[1])
        else:
            self._json({"error": "not found"}, 404, "RepoNotFound")

    def _files(self) -> list[str]:
        paths = sorted(path for path in self.hub.folder.rglob("*") if path.is_file())
        return [path.relative_to(self.hub.folder).as_posix() for path in paths]

    def _entry(self, name: str) -> dict[str, object]:
        content = (self.hub.folder / name).read_bytes()
        return {"type": "file", "path": name, "size": len(content), "oid": _blob(content)}

    def _sibling(self, name: str) -> dict[str, object]:
        """What is listed of a file; large ones, here of 100 kB, lie outside git and have a sum."""
        content = (self.hub.folder / name).read_bytes()
        said = {"rfilename": name, "size": len(content), "blobId": _blob(content)}
        if len(content) < 100_000:
            return said
        digest = hashlib.sha256(content).hexdigest()
        return said | {"lfs": {"sha256": digest, "size": len(content), "pointerSize": 134}}

    def _json(self, value: object, status: int = 200, error: str = "") -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if error:
            self.send_header("X-Error-Code", error)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _file(self, name: str) -> None:
        path = self.hub.folder / name
        if not path.is_file():
            self._json({}, 404, "EntryNotFound")
            return
        content = path.read_bytes()
        if name in self.hub.damaged:
            content = bytes(len(content))
        start = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if self.command != "GET":
            return
        stall = self.hub.stall_after.pop(name, None)
        if stall is not None:
            self.wfile.write(content[start : start + stall])
            self.wfile.flush()
            self.hub.stop.wait()
            return
        cut = self.hub.break_after.pop(name, None)
        self.wfile.write(content[start:] if cut is None else content[start : start + cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()


def _blob(content: bytes) -> str:
    """Git's name of a content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
