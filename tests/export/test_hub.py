"""Hub ids: only the files needed, resumed, cached, offline; a stand-in hub on this machine.

huggingface_hub reads its environment when it is imported, so each fetch has its own process.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hub_server
import pytest
from hub_server import COMMIT, Hub

from pleinair.runtime.errors import SourceError
from pleinair.runtime.hub import selection

_REPO = "artist/tiny-sd"
_FETCH = """
import json, sys
from pleinair.export.hub import fetch
from pleinair.runtime.errors import SourceError
try:
    folder, commit = fetch(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
    print(json.dumps({"folder": str(folder), "commit": commit}))
except SourceError as error:
    print(json.dumps({"error": str(error)}))
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A repository with more in it than an export needs; weights are stand-ins."""
    repository = tmp_path / "repository"
    names = [
        "model_index.json",
        "README.md",
        "v1-5-pruned.ckpt",
        "scheduler/scheduler_config.json",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "feature_extractor/preprocessor_config.json",
        "safety_checker/config.json",
        "safety_checker/model.safetensors",
        "safety_checker/pytorch_model.bin",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "text_encoder/pytorch_model.bin",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.bin",
    ]
    for name in names:
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_bytes(name.encode() * 10_000)
    (repository / "model_index.json").write_text(json.dumps(_INDEX))
    with hub_server.serving(_REPO, repository) as served:
        yield served


_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": ["transformers", "CLIPFeatureExtractor"],
    "image_encoder": [None, None],
    "requires_safety_checker": True,
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
_NEEDED = {
    "model_index.json",
    "scheduler/scheduler_config.json",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "feature_extractor/preprocessor_config.json",
    "safety_checker/config.json",
    "safety_checker/model.safetensors",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.bin",
}


def _fetch(home: Path, endpoint: str, *arguments: str, offline: bool = False) -> dict[str, str]:
    environment = os.environ | {
        "HF_HOME": str(home),
        "HF_ENDPOINT": endpoint,
        "HF_HUB_OFFLINE": "1" if offline else "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", _FETCH, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_only_what_is_needed_then_from_the_cache(hub: Hub, tmp_path: Path) -> None:
    first = _fetch(tmp_path / "home", hub.url, _REPO)
    assert set(hub.fetched()) == _NEEDED
    assert first["commit"] == COMMIT
    for name in _NEEDED:
        assert (Path(first["folder"]) / name).read_bytes() == (hub.folder / name).read_bytes()
    hub.requests.clear()
    assert _fetch(tmp_path / "home", hub.url, _REPO) == first
    assert hub.fetched() == [], "what is cached is not fetched again"
    hub.requests.clear()
    assert _fetch(tmp_path / "home", hub.url, _REPO, offline=True) == first
    assert hub.requests == [], "offline asks nothing"
    closed = "http://127.0.0.1:9"
    assert _fetch(tmp_path / "home", closed, _REPO) == first, "no network, but all is cached"


def test_a_broken_transfer_goes_on_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    name = "unet/diffusion_pytorch_model.safetensors"
    (hub.folder / name).write_bytes(bytes(range(256)) * 100_000)  # the client writes 10 MB at once
    hub.break_after[name] = 15_000_000
    fetched = _fetch(tmp_path / "home", hub.url, _REPO)
    if "error" in fetched:  # older versions give up; the next run goes on
        assert "run again" in fetched["error"]
        fetched = _fetch(tmp_path / "home", hub.url, _REPO)
    ranges = [r for method, path, r in hub.requests if method == "GET" and path.endswith(name)]
    assert ranges[0] in (None, "bytes=0-")
    resumed = re.fullmatch(r"bytes=(\d+)-", ranges[1] or "")
    assert resumed, "the second request asks for the rest only"
    assert 10_000_000 <= int(resumed[1]) <= 15_000_000
    assert (Path(fetched["folder"]) / name).read_bytes() == (hub.folder / name).read_bytes()


def test_no_network_says_how_to_bring_the_files_by_hand(tmp_path: Path) -> None:
    error = _fetch(tmp_path / "home", "http://127.0.0.1:9", _REPO)["error"]
    assert "\n" not in error
    assert f"hf download {_REPO} --local-dir FOLDER" in error
    assert "path" in error


def test_offline_with_half_a_cache_is_an_error(hub: Hub, tmp_path: Path) -> None:
    folder = Path(_fetch(tmp_path / "home", hub.url, _REPO)["folder"])
    (folder / "vae" / "diffusion_pytorch_model.bin").unlink()
    assert "hf download" in _fetch(tmp_path / "home", hub.url, _REPO, offline=True)["error"]


def test_an_unknown_repository(hub: Hub, tmp_path: Path) -> None:
    error = _fetch(tmp_path / "home", hub.url, "artist/unknown")["error"]
    assert "artist/unknown" in error
    assert "check the name" in error


def test_a_repository_of_another_kind() -> None:
    with pytest.raises(SourceError, match=r"no model_index\.json"):
        selection.checkpoint(["config.json", "model.safetensors"], "artist/language-model", {})


def test_without_the_safety_checker() -> None:
    guard = {name for name in _NEEDED if name.startswith(("safety_checker", "feature_extractor"))}
    without = selection.checkpoint(sorted(_NEEDED), _REPO, _INDEX, safety_checker=False)
    assert set(without) == _NEEDED - guard
    assert set(selection.checkpoint(sorted(_NEEDED - guard), _REPO, _INDEX)) == _NEEDED - guard


def test_a_repository_that_is_one_sub_model() -> None:
    files = ["README.md", "config.json", "diffusion_pytorch_model.safetensors", "taesd.pth"]
    needed = selection.alone(files, "artist/taesd")
    assert needed == ["config.json", "diffusion_pytorch_model.safetensors"]
