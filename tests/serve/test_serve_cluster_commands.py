"""The commands that serve on a cluster: Ray's own, `serve run`, and `pleinair serve --ray`.

They take a minute: pytest -m cluster -n 0 tests/serve
"""

import signal
import socket
import sys
from pathlib import Path

import pytest

from clusters import client_of, free_port, picture, request, running
from pleinair.runtime.cli import main
from pleinair.runtime.errors import SettingError
from pleinair.serve.store import Store

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.filterwarnings("ignore:::ray"),  # what Ray says of its own fields
]

SERVE = Path(sys.executable).with_name("serve")
PORT = 8000
"""Where Ray's proxies listen unless a config file says otherwise."""


def test_serve_run(tmp_path: Path) -> None:
    words = [str(SERVE), "run", "pleinair.serve.cluster:app", "model=pocket", "threads=1"]
    words += ["replicas=2", "profile=exact", f"data={tmp_path / 'data'}"]
    with running(words, tmp_path / "log") as command, client_of(PORT) as client:
        picture(client.post("/v1/images/generations", json=request(1)))
        command.stopped(signal.SIGINT)


def test_serve_run_says_where_it_listens_otherwise() -> None:
    from pleinair.serve.cluster import app

    with pytest.raises(SettingError, match="port: Ray listens where http_options"):
        app({"port": "80"})


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--model", "nowhere"], "nowhere: no such model folder"),
        (["--api-key-file", "nowhere"], "nowhere: the API keys cannot be read"),
        (["--port", "0"], "--port is 0; with --ray give one that is free"),
        (["--workers", "2"], "--workers is 2; a replica paints one picture at a time"),
    ],
)
def test_what_is_wrong_is_one_line(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And is said before a cluster is started."""
    assert refused(words, capsys).startswith(f"error: {line}")


def test_no_cluster_at_the_address_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    line = refused([], capsys)
    assert line.startswith("error: RAY_ADDRESS is 127.0.0.1:1: no Ray cluster answers; start one")


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["serve", "--ray", "--threads", "1", *words]) == 2
    return capsys.readouterr().err.splitlines()[-1]  # Ray's own lines come before


def test_a_port_in_use_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        line = refused(["--port", port, "--data", str(tmp_path)], capsys)
    where = f"--host 127.0.0.1 --port {port}"
    assert line == f"error: {where}: Ray cannot listen there; choose another"


def test_what_the_ingress_finds_wrong_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    store = Store(tmp_path)
    line = refused(["--port", str(free_port()), "--data", str(tmp_path)], capsys)
    store.close()
    assert line.startswith(f"error: the service does not start: {tmp_path}: cannot be used")
    assert "does another server use it" in line
