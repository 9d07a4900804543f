"""A picture fetched by its URL, for servers that allow it."""

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from urllib.parse import urljoin, urlsplit

from pleinair.runtime.errors import shown

from .errors import Full, Refusal, TooLarge
from .settings import Settings

_SECONDS = 30.0
_HOPS = 4
"""Addresses asked at most: redirections are followed."""
_PIECE = 1 << 16
_LINES = threading.BoundedSemaphore(4)
"""Pictures fetched at once: each holds one of the few threads that all requests share."""
_MOVED = frozenset({301, 302, 303, 307, 308})


def fetched(url: str, settings: Settings, param: str) -> bytes:
    """What is there. Raises Refusal where nothing can be had, or more than the server's limit.

    A server that others reach fetches from public addresses alone: nobody uses it to look into
    the network that it stands in.
    """
    if not _LINES.acquire(blocking=False):
        raise Full("too many pictures are fetched at once; ask again later", retry_after=_SECONDS)
    until = time.monotonic() + _SECONDS
    try:
        for _ in range(_HOPS):
            status, answer = _asked(url, settings, until)
            if status not in _MOVED:
                break
            url = urljoin(url, answer.decode("latin-1"))
    except (OSError, http.client.HTTPException, ValueError, UnicodeError) as error:
        raise Refusal(f"{param}: {shown(url)} cannot be fetched: {error}", param=param) from error
    finally:
        _LINES.release()
    if status != 200:
        raise Refusal(f"{param}: {shown(url)} answers with status {status}", param=param)
    if len(answer) > settings.max_upload:
        raise TooLarge(f"{param}: {shown(url)} is larger than the server's limit", param=param)
    return answer


def _asked(url: str, settings: Settings, until: float) -> tuple[int, bytes]:
    """Status and content, of more than the limit no more than a byte; of what moved, its place."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("give an http or https URL")
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(parts.hostname, port)
    # The address that was looked at is the one that is asked.
    connection.sock = _connected(parts.hostname, port, public=settings.beyond, until=until)
    try:
        if secure:
            connection.sock = ssl.create_default_context().wrap_socket(
                connection.sock, server_hostname=parts.hostname
            )
        path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        connection.request("GET", path, headers={"Accept": "image/*", "User-Agent": "Pleinair"})
        response = connection.getresponse()
        if response.status in _MOVED:
            return response.status, response.getheader("Location", "").encode("latin-1", "replace")
        return response.status, _read(response, settings.max_upload, until)
    finally:
        connection.close()


def _read(response: http.client.HTTPResponse, most: int, until: float) -> bytes:
    pieces: list[bytes] = []
    left = most + 1
    while left and (piece := response.read1(min(left, _PIECE))):
        pieces.append(piece)
        left -= len(piece)
        if time.monotonic() > until:
            raise TimeoutError("it takes too long")
    return b"".join(pieces)


def _connected(host: str, port: int, *, public: bool, until: float) -> socket.socket:
    """A connection to the first of a name's addresses that may be asked and answers."""
    why: OSError = OSError("there is no such place")
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        if public and not ipaddress.ip_address(address[0]).is_global:
            why = PermissionError(f"{address[0]} is no public address")
            continue
        line = socket.socket(family, kind, protocol)
        try:
            line.settimeout(max(0.1, until - time.monotonic()))
            line.connect(address)
        except OSError as error:
            line.close()
            why = error
            continue
        return line
    raise why
