"""The server behind the reverse proxies and in the systemd unit that docs/serving.md shows."""

import base64
import configparser
import contextlib
import io
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from gates import Gate
from pleinair.serve.api import waiting
from pleinair.serve.settings import Settings, read
from servers import Started, is_up, started

DOCS = Path(__file__).parents[2] / "docs" / "serving.md"
SYSTEMD = shutil.which("systemd-analyze")
ASKED = {"prompt": "a red apple", "seed": 1, "num_inference_steps": 4}


def shown(language: str) -> str:
    """The one block of that language in the documentation."""
    (block,) = re.findall(rf"^```{language}\n(.*?)^```", DOCS.read_text("utf-8"), re.M | re.S)
    return str(block)


class Unit(configparser.RawConfigParser):
    """A systemd unit, in which no name is given twice."""

    def __init__(self) -> None:
        super().__init__(delimiters=("=",), comment_prefixes=("#", ";"))
        self.read_string(shown("ini"))

    def optionxform(self, name: str) -> str:
        return name


def environment(unit: Unit) -> dict[str, str]:
    return dict(word.split("=", 1) for word in shlex.split(unit["Service"]["Environment"]))


def test_the_unit_s_command_is_the_server_s() -> None:
    unit = Unit()
    program, command, *words = shlex.split(unit["Service"]["ExecStart"])
    assert (Path(program).name, command) == ("pleinair", "serve")
    settings = read(words, environment(unit))
    settings.check_safe()
    name, _, file = unit["Service"]["LoadCredential"].partition(":")
    assert str(settings.api_key_file) == f"${{CREDENTIALS_DIRECTORY}}/{name}"
    assert Path(file).is_absolute()
    assert str(settings.data) == f"/var/lib/{unit['Service']['StateDirectory']}"
    cache = environment(unit)["PLEINAIR_CACHE"]
    assert cache == f"/var/cache/{unit['Service']['CacheDirectory']}"


def test_the_unit_waits_for_the_draining_and_begins_again_after_a_fault() -> None:
    service = Unit()["Service"]
    assert float(service["TimeoutStopSec"]) > Settings().drain + 10
    assert service["Restart"] == "on-failure"


@pytest.mark.skipif(SYSTEMD is None, reason="systemd-analyze is not here")
def test_systemd_knows_all_that_the_unit_says(tmp_path: Path) -> None:
    """With a program that is there, since it looks for one."""
    unit = tmp_path / "pleinair.service"
    unit.write_text(shown("ini").replace("/opt/pleinair/bin/pleinair", "/bin/true"))
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert [line for line in ended.stderr.splitlines() if unit.name in line] == []
    assert ended.returncode == 0, ended.stderr


def test_the_proxies_hold_nothing_back_and_wait() -> None:
    said = dict(re.findall(r"^ +(\w+) (.+);$", shown("nginx"), re.M))
    assert said["proxy_pass"] == f"http://127.0.0.1:{Settings().port}"
    assert said["proxy_buffering"] == "off"
    assert said["proxy_read_timeout"] == f"{Settings().timeout / 3600:.0f}h"
    assert f"127.0.0.1:{Settings().port}" in shown("caddyfile")
    assert "flush_interval -1" in shown("caddyfile")
    assert said["client_max_body_size"] == f"{Settings().max_upload >> 20}m"


@pytest.fixture(params=["nginx", "caddy"])
def proxy(request: pytest.FixtureRequest) -> str:
    """A proxy that the documentation shows, where it is here."""
    name: str = request.param
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not here")
    return name


@pytest.fixture
def proxied(proxy: str, server: Started, tmp_path: Path) -> Iterator[str]:
    """The address of the proxy before the server."""
    with before(proxy, server.base_url, tmp_path) as url:
        yield url


@contextlib.contextmanager
def before(proxy: str, server: str, folder: Path) -> Iterator[str]:
    """A proxy as a process of ours, set up as documented, before a server."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = {"nginx": nginx, "caddy": caddy}[proxy](folder, server, port)
    environment = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    with process:
        try:
            url = f"http://127.0.0.1:{port}"
            until = time.monotonic() + 60
            while not is_up(url):
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < until
                time.sleep(0.02)
            yield url
        finally:
            process.terminate()


def nginx(folder: Path, server: str, port: int) -> list[str]:
    """Its command, in a file the documented block in a server block."""
    location = shown("nginx").replace("http://127.0.0.1:8080", server)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    kept = "\n".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    user = "user root;" if hasattr(os, "geteuid") and os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(
        f"""daemon off; pid {folder}/pid; error_log stderr; worker_processes 1; {user}
        events {{}}
        http {{
            access_log off;
            {kept}
            server {{
                listen 127.0.0.1:{port};
                {location}
            }}
        }}"""
    )
    return ["nginx", "-e", "stderr", "-c", str(config)]


def caddy(folder: Path, server: str, port: int) -> list[str]:
    """Its command, in a file the documented site under another address."""
    site = shown("caddyfile").replace("127.0.0.1:8080", server.removeprefix("http://"))
    config = folder / "Caddyfile"
    own = "{\n    admin off\n    auto_https off\n}\n"
    config.write_text(own + site.replace("paint.example.org", f"http://:{port}"))
    return ["caddy", "run", "--config", str(config), "--adapter", "caddyfile"]


def events(answer: httpx.Response) -> Iterator[str]:
    for line in answer.iter_lines():
        if line.startswith("event: "):
            yield line.removeprefix("event: ")


def test_events_come_through_a_proxy_one_by_one(proxied: str, gate: Gate) -> None:
    """The picture stands still at the gate: what a proxy held back would never come."""
    job = httpx.post(f"{proxied}/v1/jobs", json={**ASKED, "num_inference_steps": 9}).json()["id"]
    with httpx.stream("GET", f"{proxied}/v1/jobs/{job}/events") as answer:
        told = events(answer)
        for _ in range(2):
            gate.let(3)  # a preview comes every second step
            assert "preview" in told
        gate.open()
        assert [name for name in told if name in ("picture", "done")] == ["picture", "done"]


def test_signs_of_life_come_through_a_proxy(
    proxied: str, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Headers and blanks before the picture, which waits at the gate until they have come."""
    monkeypatch.setattr(waiting, "QUIET", 0.05)
    monkeypatch.setattr(waiting, "BEAT", 0.05)
    url = f"{proxied}/v1/images/generations"
    with httpx.stream("POST", url, json=ASKED) as answer:
        pieces = answer.iter_bytes()
        assert [next(pieces).strip() for _ in range(3)] == [b""] * 3
        gate.open()
        assert json.loads(b"".join(pieces))["data"][0]["b64_json"]


def test_who_leaves_the_proxy_leaves_the_server(proxied: str, gate: Gate, server: Started) -> None:
    job = {**ASKED, "num_inference_steps": 100}
    left = threading.Event()

    def ask() -> None:
        with contextlib.suppress(httpx.ReadTimeout):
            httpx.post(f"{proxied}/v1/images/generations", json=job, timeout=0.5)
        left.set()

    threading.Thread(target=ask).start()
    until = time.monotonic() + 60
    while not gate.begun:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert left.wait(60)
    before = gate.begun
    while len(server.service.queue) or server.service.queue.working:
        assert time.monotonic() < until
        gate.let(1)
        time.sleep(0.01)
    assert gate.begun < before + 100


def noise(side: int) -> bytes:
    file = io.BytesIO()
    Image.frombytes("RGB", (side, side), os.urandom(side * side * 3)).save(file, "PNG")
    return file.getvalue()


def test_large_pictures_pass_a_proxy_and_too_large_ones_do_not(proxied: str) -> None:
    """Ten megabytes, which nginx by itself refuses from one on."""
    large = noise(1850)
    assert len(large) > 10_000_000
    url = f"{proxied}/v1/images/edits"
    form: dict[str, Any] = {"prompt": "a rocket", "size": "64x64", "num_inference_steps": "2"}
    answer = httpx.post(url, data=form, files={"image": large})
    assert answer.status_code == 200, answer.text
    found = Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"])))
    assert found.size == (64, 64)
    too_large = httpx.post(url, data=form, files={"image": bytes(33 << 20)})
    assert too_large.status_code == 413


def test_urls_and_turns_are_the_visitors_own(proxied: str, server: Started) -> None:
    """The public name is in pictures' URLs, and a visitor's address is the one that visits."""
    asked = {**ASKED, "response_format": "url"}
    headers = {"Host": "paint.example:8443"}
    answer = httpx.post(f"{proxied}/v1/images/generations", json=asked, headers=headers)
    assert answer.status_code == 200, answer.text
    url = answer.json()["data"][0]["url"]
    assert url.startswith("http://paint.example:8443/v1/images/files/")
    file = httpx.get(proxied + url.removeprefix("http://paint.example:8443"))
    assert file.headers["content-type"] == "image/png"
    forged = {"X-Forwarded-For": "192.0.2.7"}
    job = httpx.post(f"{proxied}/v1/jobs", json=ASKED, headers=forged).json()["id"]
    assert server.service.job(job).client == "127.0.0.1"
    server.until_idle()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    """A server with a key."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "keys").write_text("secret\n")
    settings = Settings(profile="exact", data=folder, api_key_file=folder / "keys")
    with started(settings) as server:
        yield server


def test_keys_pass_a_proxy(proxy: str, guarded: Started, tmp_path: Path) -> None:
    with before(proxy, guarded.base_url, tmp_path) as url:
        assert httpx.get(f"{url}/").status_code == 200
        assert httpx.get(f"{url}/v1/models").status_code == 401
        ways: list[dict[str, Any]] = [
            {"headers": {"Authorization": "Bearer secret"}},
            {"headers": {"x-api-key": "secret"}},
            {"auth": ("anybody", "secret")},
        ]
        for way in ways:
            assert httpx.get(f"{url}/v1/models", **way).status_code == 200
