"""The known models, and what a name stands for on this machine."""

import shutil
from pathlib import Path

import pytest

from pleinair.runtime import families, schedulers
from pleinair.runtime.errors import BundleError
from pleinair.runtime.model import catalog


@pytest.fixture
def models(exported_openvino: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A models folder of the user's own, empty."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.setenv("PLEINAIR_MODELS", str(folder))
    return folder


def test_entries_are_complete() -> None:
    entries = catalog.entries()
    known = {"pocket", "stable-diffusion-v1-4", "stable-diffusion-v1-5", "sd-turbo", "sdxl-turbo"}
    assert known <= set(entries)
    for entry in entries.values():
        assert entry.licence
        assert entry.kind in {"checkpoint", "openvino"}
        assert entry.size % 8 == 0
        assert entry.scheduler in schedulers.names()


def test_a_path_is_itself(exported_openvino: Path) -> None:
    assert catalog.find(exported_openvino) == exported_openvino


@pytest.mark.parametrize("name", ["sd-turbo", "stabilityai/sd-turbo"])
def test_a_name_or_a_hub_id_is_the_folder_of_that_name(
    models: Path, exported_openvino: Path, name: str
) -> None:
    with pytest.raises(BundleError, match="pleinair pull sd-turbo"):
        catalog.find(name)
    shutil.copytree(exported_openvino, models / "sd-turbo")
    assert catalog.find(name) == models / "sd-turbo"


def test_a_hub_id_nobody_knows(models: Path, exported_openvino: Path) -> None:
    with pytest.raises(BundleError, match="pleinair models"):
        catalog.find("somebody/painter")
    shutil.copytree(exported_openvino, models / "painter")
    assert catalog.find("somebody/painter") == models / "painter"


def test_defaults_come_by_folder_name_by_source_or_not_at_all(
    models: Path, exported_openvino: Path
) -> None:
    folder = shutil.copytree(exported_openvino, models / "sd-turbo")
    assert families.open_model(folder).recommended == catalog.Recommended(64, 20, 7.5, None)
    (folder / "pleinair.json").unlink()  # which says that it came from elsewhere
    turbo = families.open_model(folder).recommended
    assert turbo == catalog.Recommended(512, 1, 0.0, "euler_a")
    unknown = families.open_model(exported_openvino).recommended
    assert unknown == catalog.Recommended(64, 20, 7.5, None)
    manifest = folder / "pleinair.json"
    manifest.write_text('{"source": {"name": "SimianLuo/LCM_Dreamshaper_v7"}, "files": {}}')
    renamed = folder.rename(models / "mine")
    assert families.open_model(renamed).recommended.scheduler == "lcm"
