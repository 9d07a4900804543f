"""Pictures from clients, within bounds, and pictures for them."""

import base64
import http.server
import io
import struct
import threading
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pleinair.runtime.record import metadata
from pleinair.serve.errors import Refusal, TooLarge
from pleinair.serve.pictures import edited, encoded, received, text
from pleinair.serve.settings import Settings

SETTINGS = Settings()
DOTS = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))


def png(image: Image.Image = DOTS) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


WORDS = base64.b64encode(png()).decode()


@pytest.mark.parametrize(
    "source",
    [
        png(),
        WORDS,
        f"data:image/png;base64,{WORDS}",
        f"DATA:image/png;charset=utf-8;BASE64,{WORDS}",
        f"data:;base64,{WORDS}",
        WORDS.rstrip("="),
        "\r\n".join(WORDS[i : i + 76] for i in range(0, len(WORDS), 76)) + "\n",
    ],
    ids=lambda source: str(source)[:30],
)
def test_a_picture_comes_as_bytes_base64_or_data_url(source: Any) -> None:
    np.testing.assert_array_equal(np.asarray(received(source, SETTINGS)), np.asarray(DOTS))


@pytest.mark.parametrize(
    "source",
    [
        b"",
        b"GIF89a",
        "",
        "data:image/png;base64,",
        "=====",
        "not base64!",
        "/etc/passwd",
        "file:///etc/passwd",
        "data:image/svg+xml,<svg/>",
        "alpha",
        "canny:/etc/passwd",
        "ü" * 100,
        "http://127.0.0.1:1/a.png",
        "HTTPS://example.org/a.png",
    ],
    ids=lambda source: str(source)[:30],
)
def test_anything_else_is_refused_in_a_line(source: Any) -> None:
    with pytest.raises(Refusal) as caught:
        received(source, SETTINGS, "mask")
    assert caught.value.param == "mask"
    assert "\n" not in str(caught.value)


def bomb(side: int) -> bytes:
    """A PNG of few bytes and very many dots."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    dots = zlib.compress(bytes(1 << 20), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", dots) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_000, 50_000, 2**31 - 1])
def test_a_decompression_bomb_is_not_unpacked(side: int) -> None:
    with pytest.raises(Refusal, match="pixels"):
        received(bomb(side), SETTINGS)


def test_more_base64_than_is_taken_is_not_decoded() -> None:
    with pytest.raises(TooLarge):
        received("A" * 10_000, Settings(max_upload=1024))


def test_a_large_picture_is_scaled_down() -> None:
    large = Image.new("RGBA", (400, 100), (1, 2, 3, 4))
    found = received(png(large), Settings(max_pixels=10_000))
    assert found.size == (200, 50)
    assert found.mode == "RGBA"


def test_what_is_transparent_is_edited() -> None:
    picture = Image.new("RGB", (2, 1))
    mask = Image.new("RGBA", (2, 1), (9, 9, 9, 255))
    mask.putpixel((0, 0), (0, 0, 0, 0))
    assert list(np.asarray(edited(picture, mask))[0]) == [255, 0]
    mask.putpixel((0, 0), (0, 0, 0, 1))  # a soft edge is none
    assert list(np.asarray(edited(picture, mask))[0]) == [0, 9]
    assert edited(picture, None) is None
    grey = Image.new("L", (2, 1))
    grey.putpixel((1, 0), 255)
    assert list(np.asarray(edited(picture, grey.convert("RGB")))[0]) == [0, 255]


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_a_file_says_how_it_was_made(tmp_path: Any, format: Any) -> None:
    info = {"prompt": "a red apple", "seed": 3, "num_inference_steps": 4}
    path = tmp_path / f"a.{format}"
    path.write_bytes(encoded(DOTS, info, format))
    assert metadata.read(path).settings == info


def test_a_preview_needs_say_nothing() -> None:
    assert Image.open(io.BytesIO(encoded(DOTS, {}))).size == (4, 4)
    assert base64.b64decode(text(b"abc")) == b"abc"


# Pictures by their URL.


class Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        places = {"/moved": "/a.png", "/round": "/round", "/away": "file:///etc/passwd"}
        if self.path in places:
            self.send_response(302)
            self.send_header("Location", places[self.path])
            self.end_headers()
            return
        self.send_response(200 if self.path in ("/a.png", "/long") else 404)
        self.end_headers()
        self.wfile.write(bytes(300_000) if self.path == "/long" else png())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def pages() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


ALLOWED = Settings(allow_urls=True, max_upload=200_000)


@pytest.mark.parametrize("path", ["/a.png", "/moved"])
def test_a_url_is_fetched_where_it_is_allowed(pages: str, path: str) -> None:
    found = received(pages + path, ALLOWED)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(DOTS))


@pytest.mark.parametrize("path", ["/nothing", "/round", "/away", "/long", "/a b", "\r\nX: y"])
def test_what_cannot_be_had_is_refused(pages: str, path: str) -> None:
    with pytest.raises(Refusal, match="image"):
        received(pages + path, ALLOWED)


def test_a_server_for_others_does_not_look_into_its_own_network(pages: str) -> None:
    public = Settings(allow_urls=True, host="0.0.0.0", insecure=True)
    for place in (pages, "http://[::1]/", "http://169.254.169.254/", "http://10.0.0.1/"):
        with pytest.raises(Refusal, match="no public address"):
            received(f"{place}/a.png", public)
