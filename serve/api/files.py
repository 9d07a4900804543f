"""Pictures that clients fetch by a URL of their own, for as long as there is room."""

import re
import secrets
import threading
from collections import OrderedDict

from fastapi import APIRouter, Request
from starlette.responses import Response

from ..errors import Unknown
from ..pictures import Format

ROOM = 256 << 20
"""Bytes of all of them: the oldest make room."""
PATH = "/v1/images/files"

_HOST = re.compile(r"[\w.-]+(:\d+)?|\[[\da-fA-F:.]+\](:\d+)?")


class Files:
    """Pictures by names that nobody guesses; whoever has the name may fetch it, without a key."""

    def __init__(self, room: int = ROOM) -> None:
        self.room = room
        self._files: OrderedDict[str, bytes] = OrderedDict()
        self._changing = threading.Lock()

    def add(self, data: bytes, format: Format) -> str:
        """Its name."""
        name = f"{secrets.token_urlsafe(24)}.{format}"
        with self._changing:
            self._files[name] = data
            while len(self._files) > 1 and sum(map(len, self._files.values())) > self.room:
                self._files.popitem(last=False)
        return name

    def read(self, name: str) -> bytes:
        """Raises Unknown."""
        with self._changing:
            if name not in self._files:
                raise Unknown("there is no such picture here, or no longer", param="name")
            return self._files[name]


def address(request: Request, name: str) -> str:
    """The URL of a file, by the name that the client knows the server by."""
    forwarded = request.headers.get("x-forwarded-host", "").partition(",")[0].strip()
    url = request.base_url
    if _HOST.fullmatch(forwarded):
        url = url.replace(netloc=forwarded)
    return f"{str(url).rstrip('/')}{PATH}/{name}"


def router(files: Files) -> APIRouter:
    made = APIRouter(tags=["pictures"])

    @made.get(
        f"{PATH}/{{name}}", response_class=Response, responses={200: {"content": {"image/*": {}}}}
    )
    async def picture(name: str) -> Response:
        """A picture whose URL an answer gave."""
        data = files.read(name)
        headers = {"Cache-Control": "private, max-age=31536000, immutable"}
        return Response(data, media_type=f"image/{name.rpartition('.')[2]}", headers=headers)

    return made
