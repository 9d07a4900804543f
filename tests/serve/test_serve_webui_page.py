"""The lines of curl on the page about webui's clients."""

import json
import re
import subprocess
from pathlib import Path

import httpx
from PIL import Image

from servers import Started

TEXT = (Path(__file__).parents[2] / "docs" / "serving-clients.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.+?)^```", TEXT, re.MULTILINE | re.DOTALL)
LINES = [
    line
    for block in BLOCKS
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("curl ")
]


def test_every_line_of_curl_is_answered(server: Started, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), (200, 30, 30)).save(tmp_path / "apple.png")
    answers = {}
    for line in LINES:
        asked = line.replace("http://localhost:8080", server.base_url) + " --fail-with-body"
        done = subprocess.run(
            ["bash", "-c", asked], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        path = re.search(r"/(?:sdapi/v1|internal)/([\w-]+)", line)
        assert path
        answers.setdefault(path[1], json.loads(done.stdout))
    assert len(answers["txt2img"]["images"]) == len(answers["img2img"]["images"]) == 1
    assert answers["extra-single-image"]["image"]
    assert answers["options"]["sd_model_checkpoint"] == "pocket"


def test_every_endpoint_is_on_the_page(server: Started) -> None:
    paths = httpx.get(f"{server.base_url}/openapi.json", timeout=60).json()["paths"]
    ours = ("/sdapi/", "/internal/")
    names = [path.rpartition("/")[2] for path in paths if path.startswith(ours)]
    assert len(names) > 30
    assert not [name for name in names if not re.search(rf"[/`]{name}\b", TEXT)]
