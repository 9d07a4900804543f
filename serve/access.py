"""Who may ask: keys, Host, pages of other sites; how much may be sent, and how slowly."""

import base64
import binascii
import contextlib
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pleinair.runtime.errors import SettingError

from .api.errors import problem
from .arrival import in_time
from .settings import Settings

OPEN = re.compile(r"/(|health|ready|page/files/[^/]+|v1/images/files/[^/]+)")
"""Paths that want no key: the page asks for it, and a picture's own name is one."""

_CLIENT = "pleinair.client"
_CHANGING = {"POST", "PUT", "PATCH", "DELETE"}


def client_of(request: HTTPConnection) -> str:
    """Who asks, for the queue's turns: the key where there are keys, else the peer's address."""
    known: str | None = request.scope.get(_CLIENT)
    if known:
        return known
    return request.client.host if request.client else "local"


class Keys:
    """API keys, of which a request bears one where there are any.

    They are compared as digests, in the same time whether they are near or far.
    """

    def __init__(self, keys: list[str]) -> None:
        self._digests = [_digest(key.encode()) for key in keys]

    @classmethod
    def read(cls, path: Path | None) -> "Keys":
        """Those of a file, one a line; lines that begin with # are remarks; None has none.

        Raises SettingError where it cannot be read, or holds none.
        """
        if path is None:
            return cls([])
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "is no text"
            raise SettingError(f"{path}: the API keys cannot be read: {why}") from None
        keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        if not keys:
            raise SettingError(f"{path}: holds no API key; write one a line")
        return cls(keys)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def client(self, headers: Mapping[str, str]) -> str | None:
        """The name of the key that a request bears, which does not tell the key; else None."""
        for key in _borne(headers):
            digest = _digest(key)
            matches = [hmac.compare_digest(digest, known) for known in self._digests]
            if any(matches):
                return f"key-{digest.hex()[:16]}"
        return None


def _borne(headers: Mapping[str, str]) -> list[bytes]:
    """Keys in a request: as Bearer, as the password of any user by Basic, as x-api-key."""
    borne = [headers["x-api-key"].encode("latin-1")] if "x-api-key" in headers else []
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        borne.append(value.strip().encode("latin-1"))
    elif scheme.lower() == "basic":
        with contextlib.suppress(binascii.Error, ValueError):
            borne.append(base64.b64decode(value.strip(), validate=True).partition(b":")[2])
    return borne


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


class Access:
    """An ASGI application that lets requests through to another, or answers them itself."""

    def __init__(self, app: ASGIApp, settings: Settings, keys: Keys) -> None:
        self.app, self.settings, self.keys = app, settings, keys
        self.local = not settings.beyond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refused = self._refused(scope, headers)
        if refused is None:
            if scope["type"] == "http":
                receive = in_time(receive, self.settings.upload_timeout)
            await self.app(scope, self._capped(receive), send)
        elif scope["type"] == "http":
            await refused(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _refused(self, scope: Scope, headers: Headers) -> Response | None:
        """The answer to a request that is not let through."""
        path, method = scope["path"], scope.get("method", "GET")
        if self.local and not self.keys and not _is_here(headers.get("host", "")):
            return problem(
                path, 421, "this server answers to localhost alone: ask by that name", code="host"
            )
        if method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": "GET, POST, DELETE, OPTIONS"})
        if method in _CHANGING and self._is_foreign(headers):
            return problem(
                path, 403, "pages of other sites may not ask; allow them by --cors", code="origin"
            )
        if self.keys and not OPEN.fullmatch(path):
            client = self.keys.client(headers)
            if client is None:
                return _without_key(path)
            scope[_CLIENT] = client
        if _declared(headers) > self.settings.max_upload:
            return problem(path, 413, self._too_large, code="too_large")
        return None

    def _is_foreign(self, headers: Headers) -> bool:
        """Whether a browser says that another site's page asks."""
        origin = headers.get("origin")
        allowed = self.settings.cors
        if headers.get("sec-fetch-site") != "cross-site" or "*" in allowed:
            return False
        return origin not in allowed

    @property
    def _too_large(self) -> str:
        return f"the request is larger than {self.settings.max_upload} bytes, the server's limit"

    def _capped(self, receive: Receive) -> Receive:
        """Receives no more than the limit, whatever a request says of its length."""
        received = 0

        async def capped() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.settings.max_upload:
                raise HTTPException(413, self._too_large, {"Connection": "close"})
            return message

        return capped


def _without_key(path: str) -> Response:
    bearer = path.startswith(("/v1/", "/mcp", "/page/"))  # by Basic browsers ask in a window
    scheme = "Bearer" if bearer else "Basic"
    return problem(
        path,
        401,
        "give one of the server's API keys: as Bearer, or as the password of any user",
        code="invalid_api_key",
        headers={"WWW-Authenticate": f'{scheme} realm="Pleinair"'},
    )


def _is_here(host: str) -> bool:
    """Whether a Host header names this machine itself, or an address.

    A page that has its own name resolve to this machine, and so reads what it shows, cannot.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _declared(headers: Headers) -> int:
    length = headers.get("content-length", "0")
    return int(length) if length.isascii() and length.isdecimal() and len(length) < 20 else 0
