"""`pleinair pull`: fetched whole or not at all, resumed, checked; the hub is one of our own."""

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import hub_server
import pytest
from hub_server import COMMIT, Hub
from safetensors.torch import save_file

from checkpoints import compvis_state, tiny_stable_diffusion
from pleinair.runtime import families
from pleinair.runtime.cli import main
from pleinair.runtime.errors import to_install
from pleinair.runtime.hub import selection
from pleinair.runtime.hub.folders import alone
from pleinair.runtime.model import catalog
from pleinair.runtime.model.bundle import Bundle

_REPO = "artist/tiny-ov"
_UNET = "unet/openvino_model.bin"


@pytest.fixture
def repository(exported_openvino: Path, tmp_path: Path) -> Path:
    """A ready-made model as others publish it, without our manifest, and with more beside it."""
    folder = shutil.copytree(exported_openvino, tmp_path / "repository")
    (folder / "pleinair.json").unlink()
    (folder / "README.md").write_text("a model")
    (folder / ".gitattributes").write_text("*.bin lfs")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"for others")
    return folder


@pytest.fixture
def hub(repository: Path, here: Path) -> Iterator[Hub]:
    with hub_server.serving(_REPO, repository) as served:
        served.card = {"license": "other", "license_name": "Paint-1", "license_link": "LICENSE.md"}
        with pytest.MonkeyPatch.context() as patch:
            _point(patch, served.url, here / "home")
            yield served


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PLEINAIR_MODELS", "models")
    return folder


def _point(patch: pytest.MonkeyPatch, url: str, home: Path) -> None:
    """Set what huggingface_hub reads from its environment when it is imported."""
    from huggingface_hub import constants

    patch.setattr(constants, "ENDPOINT", url)
    files = "/{repo_id}/resolve/{revision}/{filename}"
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + files)
    patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setenv("HF_TOKEN", "")


def _pull(*arguments: str) -> int:
    return main(["pull", *arguments])


def _left() -> list[str]:
    """What is in models/, hidden folders included."""
    models = Path("models")
    return sorted(path.name for path in models.iterdir()) if models.is_dir() else []


def _error(capsys: pytest.CaptureFixture[str]) -> str:
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_a_ready_made_model(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    assert _pull(_REPO) == 0
    said = capsys.readouterr()
    target = Path("models/tiny-ov")
    assert said.out == f"{target}\n"
    assert "licence: Paint-1 (LICENSE.md)" in said.err
    assert "MB" in said.err
    assert _left() == ["tiny-ov"]
    bundle = Bundle.open(target)
    bundle.verify()
    wanted = set(selection.ready_made(_files(hub.folder)))
    assert wanted == _files(target) - {"pleinair.json"}
    assert "README.md" in wanted
    assert not {".gitattributes", "unet/diffusion_pytorch_model.safetensors"} & wanted
    assert bundle.manifest["source"] == {"kind": "hub", "name": _REPO, "revision": COMMIT}
    for name in wanted:
        assert (target / name).read_bytes() == (hub.folder / name).read_bytes()
    (target / _UNET).write_bytes(bytes(len((target / _UNET).read_bytes())))
    assert main(["models", "--verify"]) == 2, "the sums are checked later, too"


def _files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_an_existing_folder_is_left_alone(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    Path("models/tiny-ov").mkdir(parents=True)
    assert _pull(_REPO) == 2
    assert "models/tiny-ov exists" in _error(capsys).replace("\\", "/")
    assert hub.requests == []
    assert _pull(_REPO, "elsewhere/mine") == 0
    assert Bundle.open("elsewhere/mine").name == "mine"


def test_a_cut_transfer_goes_on_where_it_stopped(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10_000)
    size = (hub.folder / _UNET).stat().st_size
    hub.break_after[_UNET] = size // 2
    assert _pull(_REPO) == 0
    first, second = [span for path, span in _asked(hub) if path == _UNET]
    assert first is None
    assert 0 < int((second or "").removeprefix("bytes=").removesuffix("-")) <= size // 2
    assert (Path("models/tiny-ov") / _UNET).read_bytes() == (hub.folder / _UNET).read_bytes()


_KILLED = """
import sys
from huggingface_hub import constants
constants.DOWNLOAD_CHUNK_SIZE = 10_000
from pleinair.runtime.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_pull_goes_on(
    hub: Hub, here: Path, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed in the middle of a file by any means, it fetches the rest; from a mirror, too."""
    size = (hub.folder / _UNET).stat().st_size
    hub.stall_after[_UNET] = size // 2
    home = {"HF_HOME": str(here / "home"), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    running = subprocess.Popen(
        [sys.executable, "-c", _KILLED, "pull", _REPO],
        env=os.environ | home | {"HF_ENDPOINT": hub.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    partial = here / f"models/.tiny-ov.{COMMIT[:12]}.fetching" / f"{_UNET}.partial"
    deadline = time.monotonic() + 120
    while not (partial.is_file() and partial.stat().st_size > 10_000):
        assert running.poll() is None, running.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    running.send_signal(number)
    out, err = running.communicate(timeout=60)
    assert out == ""
    if number == signal.SIGINT:
        assert running.returncode == 130
        assert "the same command goes on from there" in err
        assert "Traceback" not in err
    come = partial.stat().st_size
    assert 0 < come < size
    assert not (here / "models/tiny-ov").exists()
    hub.requests.clear()
    assert _pull(_REPO) == 0
    assert "are here already" in capsys.readouterr().err
    asked = dict(_asked(hub))
    assert asked[_UNET] == f"bytes={come}-"
    assert "model_index.json" not in asked, "what had come is not fetched again"
    assert _left() == ["tiny-ov"]
    Bundle.open("models/tiny-ov").verify()


def _asked(hub: Hub) -> list[tuple[str, str | None]]:
    """The files that were asked for, and from which byte on."""
    gets = [(path, span) for method, path, span in hub.requests if method == "GET"]
    found = [(path, span) for path, span in gets if "/resolve/" in path]
    return [(path.split("/resolve/")[1].split("/", 1)[1], span) for path, span in found]


@pytest.mark.parametrize("name", [_UNET, "scheduler/scheduler_config.json"])
def test_a_damaged_file_is_refused(hub: Hub, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    hub.damaged.add(name)
    assert _pull(_REPO) == 2
    assert f"{name}: damaged" in _error(capsys)
    assert not Path("models/tiny-ov").exists()
    hub.damaged.clear()
    assert _pull(_REPO) == 0, "it is fetched anew"


def test_a_gated_model_and_its_token(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.token = "hf_painter"
    assert _pull(_REPO) == 2
    error = _error(capsys)
    assert "gated: accept its licence" in error
    assert "HF_TOKEN" in error
    monkeypatch.setenv("HF_TOKEN", "hf_painter")
    assert _pull(_REPO) == 0


def test_no_space_is_told_before_the_transfer(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    assert _pull(_REPO) == 2
    assert "free some space" in _error(capsys)
    assert _asked(hub) == []
    assert _left() == []


def test_a_disk_that_fills_up_on_the_way(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    assert _pull(_REPO) == 2
    assert "is full; free some space and run again" in _error(capsys)


def test_two_pulls_of_one_model(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    with alone(Path(f"models/.tiny-ov.{COMMIT[:12]}.fetching").absolute(), "pull"):
        assert _pull(_REPO) == 2
    assert "another pull is writing" in _error(capsys)
    assert _asked(hub) == []


def test_no_network(hub: Hub, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What to do by hand; that done, the folder is taken from there."""
    with pytest.MonkeyPatch.context() as patch:
        _point(patch, "http://127.0.0.1:9", here / "home")
        assert _pull(_REPO) == 2
        assert f"hf download {_REPO} --local-dir FOLDER" in _error(capsys)
        assert _pull(str(hub.folder), "models/by-hand") == 0
    assert _left() == ["by-hand"]
    Bundle.open("models/by-hand")
    assert hub.requests == []


def test_offline_from_the_cache(
    hub: Hub, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import constants

    cache = here / "home" / "hub" / "models--artist--tiny-ov"
    shutil.copytree(hub.folder, cache / "snapshots" / COMMIT)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert _pull(_REPO) == 0
    assert "taken from the hub's cache" in capsys.readouterr().err
    assert hub.requests == []
    Bundle.open("models/tiny-ov")


def test_what_the_cache_has_is_not_fetched(hub: Hub, here: Path) -> None:
    cache = here / "home" / "hub" / "models--artist--tiny-ov" / "snapshots" / COMMIT
    (cache / "unet").mkdir(parents=True)
    shutil.copyfile(hub.folder / _UNET, cache / _UNET)
    assert _pull(_REPO) == 0
    assert _UNET not in dict(_asked(hub))
    Bundle.open("models/tiny-ov").verify()


def test_a_missing_client(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert _pull(_REPO) == 2
    assert to_install("hub") in _error(capsys)
    assert _pull(str(hub.folder), "models/by-hand") == 0, "by hand no client is needed"


def test_a_checkpoint_without_torch(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (hub.folder / "unet" / "openvino_model.xml").unlink()
    (hub.folder / "vae").mkdir()
    for part in ("text_encoder", "vae"):
        (hub.folder / part / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert _pull(_REPO) == 2
    assert to_install("export") in _error(capsys)
    assert _asked(hub) == []


def _convert_here(source: str, target: Path, *options: str) -> int:
    """pleinair-export in this process, in the precision in which others trace these graphs."""
    from pleinair.export import cli

    with contextlib.redirect_stdout(None):
        return cli.main([source, str(target), "--precision", "fp32", *options])


@pytest.mark.parametrize("form", ["folder", pytest.param("file", marks=pytest.mark.slow)])
def test_a_checkpoint_is_fetched_and_converted(
    hub: Hub,
    tmp_path: Path,
    form: str,
    traced_once: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if form == "folder":  # the file goes the whole way, by a process of its own
        monkeypatch.setattr("pleinair.runtime.hub.pull.run_converter", _convert_here)
    checkpoint = tiny_stable_diffusion(tmp_path / "checkpoint", clip_vocabulary=form == "file")
    (checkpoint / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"the same, older")
    hub.folder = checkpoint
    if form == "file":
        hub.folder = tmp_path / "one"
        hub.folder.mkdir()
        save_file(compvis_state(checkpoint), hub.folder / "painter.safetensors")
    assert _pull(_REPO, "models/painter") == 0
    said = capsys.readouterr()
    assert said.out == f"{Path('models/painter')}\n"
    assert "to be converted" in said.err
    assert "unet/diffusion_pytorch_model.bin" not in dict(_asked(hub))
    assert _left() == ["painter"], "the checkpoint is gone when the model is there"
    manifest = json.loads(Path("models/painter/pleinair.json").read_text())
    assert manifest["source"] == {"kind": "hub", "name": _REPO, "revision": COMMIT}


def test_several_files_in_a_repository(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(hub.folder / "unet")
    (hub.folder / "model_index.json").unlink()
    assert _pull(_REPO) == 2
    assert "neither a model that Pleinair opens nor a checkpoint" in _error(capsys)
    for name in ("painter-v1.safetensors", "painter-v2.safetensors"):
        (hub.folder / name).write_bytes(b"no checkpoint")
    assert _pull(_REPO) == 2
    assert f"{_REPO}/painter-v2.safetensors" in _error(capsys)
    assert _pull(f"{_REPO}/painter-v3.safetensors") == 2
    assert "has no painter-v3.safetensors" in _error(capsys)
    assert _asked(hub) == []


def test_another_kind_is_refused_before_the_transfer(
    hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    index = {"_class_name": "FluxPipeline"}
    (hub.folder / "model_index.json").write_text(json.dumps(index))
    assert _pull(_REPO) == 2
    assert "a FluxPipeline model" in _error(capsys)
    assert [path for path, _ in _asked(hub)] == ["model_index.json"]
    assert _left() == []


def test_a_file_outside_the_folder_is_refused(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.listed = [{"rfilename": "../../.bashrc", "size": 1, "blobId": "0"}]
    assert _pull(_REPO) == 2
    assert "outside its folder" in _error(capsys)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("pocket", "comes with the program"),
        ("nowhere", "no known model, no folder or file here, and no hub id"),
        ("artist/unknown", "check the name"),
    ],
)
def test_names_that_stand_for_nothing(
    hub: Hub, name: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _pull(name) == 2
    assert says in _error(capsys)


def test_a_known_model_by_its_name(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = catalog.Entry(
        "apples", _REPO, "openvino", "Apple-1.0", 64, 2, 1.0, "ddim", "a painter of apples"
    )
    monkeypatch.setattr(catalog, "entries", lambda: {"apples": entry})
    monkeypatch.setenv("PLEINAIR_MODELS", "own")
    assert _pull("apples") == 0
    assert "licence: Apple-1.0" in capsys.readouterr().err
    assert catalog.find("apples") == Path("own/apples")
    assert families.open_model("own/apples").recommended.steps == 2


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from pleinair.runtime.cli import main\n"
        "try:\n    main(['pull', '--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'huggingface_hub', 'openvino', 'torch', 'filelock'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "HF_ENDPOINT" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
