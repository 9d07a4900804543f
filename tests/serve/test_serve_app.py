"""The application as a whole: what its page says of it is so."""

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from servers import Started

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.+?)^```", TEXT, re.MULTILINE | re.DOTALL)
LINES = [
    line
    for block in BLOCKS
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("curl ")
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the page's lines find the pictures that they send."""
    Image.new("RGB", (64, 64), (200, 30, 30)).save(tmp_path / "apple.png")
    mask = Image.new("RGBA", (64, 64), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (16, 16, 48, 48))
    mask.save(tmp_path / "mask.png")
    return tmp_path


def run(line: str, server: Started, folder: Path, job: str) -> str:
    """What curl writes; it fails where the server does not answer with success."""
    line = line.replace("http://localhost:8080", server.base_url).replace("JOB", job)
    words = [*shlex.split(line), "--fail-with-body", "--max-time", "60"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, (line, done.stdout, done.stderr)
    return done.stdout


def test_every_line_of_curl_is_answered(server: Started, folder: Path) -> None:
    job, answers = "", {}
    for line in LINES:
        answers[line] = run(line, server, folder, job)
        if "/v1/jobs -H" in line:
            job = json.loads(answers[line])["id"]
    told = "\n".join(answers.values())
    for word in ("b64_json", "image_generation.completed", "event: done", "pleinair_pictures"):
        assert word in told
    assert '"isError":true' not in told
    assert Image.open(folder / "apple.png").info["parameters"].startswith("a red apple")
    server.until_idle()


def test_every_endpoint_has_its_line(server: Started) -> None:
    paths = httpx.get(f"{server.base_url}/openapi.json").json()["paths"]
    known = {
        (method.upper(), re.sub(r"\{.*?\}", "[^/ ]+", path))
        for path, methods in paths.items()
        for method in methods
        if not path.startswith(("/sdapi", "/internal", "/controlnet", "/v1/images/files"))
    }
    for method, path in known:
        assert any(
            re.search(rf"localhost:8080{path}( |\?|$)", line) and _method(line) == method
            for line in LINES
        ), (method, path)


def _method(line: str) -> str:
    if "-X DELETE" in line:
        return "DELETE"
    return "POST" if " -d " in line or " -F " in line else "GET"


def test_nothing_is_fetched_from_elsewhere(server: Started) -> None:
    """FastAPI's own pages of documentation would be."""
    for path in ("/docs", "/redoc"):
        assert httpx.get(f"{server.base_url}{path}").status_code == 404


def test_mistakes_are_told_in_the_api_s_shape(
    server: Started, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def mistake(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a secret of ours")

    monkeypatch.setattr(server.service, "submit", mistake)
    for path, keys in (
        ("/v1/jobs", {"message", "type", "param", "code"}),
        ("/v1/images/generations", {"message", "type", "param", "code"}),
    ):
        answer = httpx.post(f"{server.base_url}{path}", json={"prompt": "a"})
        assert answer.status_code == 500
        assert answer.json()["error"].keys() == keys
        assert "secret" not in answer.text
        assert answer.headers["x-should-retry"] == "false"
