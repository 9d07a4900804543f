"""Ray's own commands with the service: `serve run`, and a config file as Kubernetes has it.

They take a minute: pytest -m cluster -n 0 tests/serve
"""

import signal
import sys
from pathlib import Path

import pytest

from clusters import client_of, picture, request, running

pytestmark = pytest.mark.cluster

SERVE = Path(sys.executable).with_name("serve")
PORT = 8000
"""Where Ray's proxies listen unless a config file says otherwise."""


def test_serve_run(tmp_path: Path) -> None:
    words = [str(SERVE), "run", "pleinair.serve.cluster:app", "model=pocket", "threads=1"]
    words += ["replicas=2", "profile=exact", f"data={tmp_path / 'data'}"]
    with running(words, tmp_path / "log") as command, client_of(PORT) as client:
        picture(client.post("/v1/images/generations", json=request(1)))
        command.stopped(signal.SIGINT)
