"""Who may ask: keys, Host, other sites' pages, and how much is read of a body."""

import base64
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pleinair.runtime.errors import SettingError
from pleinair.serve.access import Keys
from pleinair.serve.settings import Settings
from servers import Started, started

ORIGIN = "https://chat.example"
KEY, OTHER = "sk-a-key-of-our-own", "schlüssel two"
BASIC = base64.b64encode(f"anybody:{KEY}".encode()).decode()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "keys").write_text(f"# ours\n{KEY}\n\n  {OTHER}  \n", encoding="utf-8")
    pocket = str(Path(__file__).parents[2] / "models" / "pocket")
    asked = Settings(
        model=(pocket,),
        data=folder,
        api_key_file=folder / "keys",
        cors=(ORIGIN,),
        max_upload=100_000,
    )
    with started(asked) as one:
        yield one


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer  {KEY}"},
        {"Authorization": f"Bearer {OTHER}".encode()},
        {"Authorization": f"Basic {BASIC}"},
        {"x-api-key": KEY},
        {"Authorization": "Bearer wrong", "x-api-key": KEY},
    ],
    ids=str,
)
def test_a_key_opens(guarded: Started, headers: dict[str, Any]) -> None:
    assert httpx.get(f"{guarded.base_url}/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {KEY}x"},
        {"Authorization": f"Bearer {KEY[:-1]}"},
        {"Authorization": KEY},
        {"Authorization": "Basic !"},
        {"Authorization": "Basic " + base64.b64encode(KEY.encode()).decode()},
        {"Authorization": b"Bearer \xff\xfe"},
        {"Authorization": "Bearer " + "x" * 8000},
        {"x-api-key": ""},
    ],
    ids=lambda headers: str(headers)[:40],
)
def test_anything_else_does_not(guarded: Started, headers: dict[str, Any]) -> None:
    answer = httpx.get(f"{guarded.base_url}/v1/models", headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_each_api_says_so_in_its_shape(guarded: Started) -> None:
    answer = httpx.get(f"{guarded.base_url}/sdapi/v1/options")
    assert answer.status_code == 401
    assert answer.json().keys() == {"error", "detail", "body", "errors"}
    assert answer.headers["WWW-Authenticate"].startswith("Basic")
    for path in ("/mcp", "/metrics", "/v1/jobs", "/openapi.json", "/nothing"):
        assert httpx.post(f"{guarded.base_url}{path}").status_code == 401


def test_whether_it_lives_is_told_to_anybody(guarded: Started) -> None:
    for path in ("/health", "/ready"):
        assert httpx.get(f"{guarded.base_url}{path}").status_code == 200


def test_a_picture_s_own_url_wants_no_key(guarded: Started) -> None:
    answer = httpx.post(
        f"{guarded.base_url}/v1/images/generations",
        json={"prompt": "an apple", "response_format": "url", "num_inference_steps": 1},
        headers={"x-api-key": KEY},
    )
    assert httpx.get(answer.json()["data"][0]["url"]).status_code == 200


def test_a_job_is_its_key_s_alone(guarded: Started) -> None:
    first, second = ({"Authorization": f"Bearer {key}".encode()} for key in (KEY, OTHER))
    url = f"{guarded.base_url}/v1/jobs"
    asked = {"prompt": "an apple", "num_inference_steps": 1}
    job = httpx.post(url, json=asked, headers=first).json()
    assert httpx.get(f"{url}/{job['id']}", headers=first).status_code == 200
    for method in ("GET", "DELETE"):
        answer = httpx.request(method, f"{url}/{job['id']}", headers=second)
        assert answer.status_code == 404
    assert [one["id"] for one in httpx.get(url, headers=first).json()["data"]] == [job["id"]]
    assert httpx.get(url, headers=second).json()["data"] == []
    (kept,) = (
        one
        for one in guarded.service.listed(guarded.service.job(job["id"]).client)
        if one.id == job["id"]
    )
    assert KEY not in kept.client
    guarded.until_idle()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no API key"),
        ("# none\n\n", "no API key"),
        (b"\xff", "cannot be read"),
        (None, "No such"),
    ],
)
def test_a_key_file_without_keys_is_refused(
    tmp_path: Path, content: str | bytes | None, said: str
) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SettingError, match=said):
        Keys.read(path)


# Pages of other sites, and names that are made to lead here.


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "", "localhost.evil.example"]
)
def test_another_name_for_this_machine_is_refused(server: Started, host: str) -> None:
    answer = httpx.get(f"{server.base_url}/v1/models", headers={"Host": host})
    assert answer.status_code == 421


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "[::1]:80", "10.0.0.2", "a.localhost"]
)
def test_its_own_names_are_taken(server: Started, host: str) -> None:
    answer = httpx.get(f"{server.base_url}/v1/models", headers={"Host": host})
    assert answer.status_code == 200


def test_with_keys_any_name_is_taken(guarded: Started) -> None:
    headers = {"Host": "paint.example.org", "x-api-key": KEY}
    assert httpx.get(f"{guarded.base_url}/v1/models", headers=headers).status_code == 200


def test_pages_of_other_sites_change_nothing(server: Started) -> None:
    url = f"{server.base_url}/v1/jobs"
    theirs = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    answer = httpx.post(url, json={"prompt": "an apple"}, headers=theirs)
    assert answer.status_code == 403
    assert "--cors" in answer.json()["error"]["message"]
    ours = {"Origin": server.base_url, "Sec-Fetch-Site": "same-origin"}
    assert httpx.post(url, json={"unknown": 1}, headers=ours).status_code == 400


def test_without_cors_options_are_answered_and_nothing_allowed(server: Started) -> None:
    for path in ("/v1/images/generations", "/sdapi/v1/txt2img", "/v1/jobs"):
        answer = httpx.options(
            f"{server.base_url}{path}",
            headers={"Origin": "https://a.example", "Access-Control-Request-Method": "POST"},
        )
        assert answer.is_success
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_cors_lets_the_pages_of_an_origin_ask(guarded: Started) -> None:
    url = f"{guarded.base_url}/v1/images/generations"
    asks = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    answer = httpx.options(url, headers=asks)
    assert answer.is_success
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    theirs = {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"}
    answer = httpx.post(url, json={}, headers=theirs)
    assert answer.status_code == 401
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert httpx.post(url, json={}, headers={**theirs, "x-api-key": KEY}).status_code == 400
    evil = {**theirs, "Origin": "https://evil.example", "x-api-key": KEY}
    assert httpx.post(url, json={}, headers=evil).status_code == 403
    assert httpx.options(url).is_success  # SillyTavern asks so


# Bodies.


def test_a_large_body_is_refused_before_it_is_read(guarded: Started) -> None:
    host, _, port = guarded.base_url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as line:
        line.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"X-API-Key: " + KEY.encode() + b"\r\nContent-Length: 100001\r\n\r\n"
        )
        assert line.recv(1000).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/images/generations", "/v1/images/edits", "/mcp"])
@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x"])
def test_a_body_that_does_not_say_how_long_it_is(guarded: Started, path: str, kind: str) -> None:
    answer = httpx.post(
        f"{guarded.base_url}{path}",
        content=(b"x" * 1000 for _ in range(200)),
        headers={
            "Content-Type": kind,
            "Accept": "application/json, text/event-stream",
            "x-api-key": KEY,
        },
    )
    assert answer.status_code in (400, 413)
    if kind == "application/json":
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "too_large"
