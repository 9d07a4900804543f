"""The known models, and which settings a folder is painted with."""

import re
from pathlib import Path

import pytest

from fakes import model_folder
from pleinair.runtime.errors import BundleError
from pleinair.runtime.model import catalog
from pleinair.runtime.model.bundle import Bundle
from pleinair.runtime.model.catalog import Recommended

USUAL = Recommended(64, 20, 7.5, None)
KNOWN = catalog.entries()
LCM = {"_class_name": "LCMScheduler"}


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models that is the user's, and an empty working directory."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setenv("PLEINAIR_MODELS", str(tmp_path / "mine"))
    return tmp_path / "mine"


def test_entries_are_whole() -> None:
    assert "pocket" in KNOWN
    for name, entry in KNOWN.items():
        assert entry.name == name
        assert entry.size % 8 == 0
        assert entry.steps >= 1
        assert entry.guidance_scale >= 0


def test_a_model_is_known_by_name_or_hub_id() -> None:
    entry = next(entry for entry in KNOWN.values() if "/" in entry.source)
    assert catalog.known(entry.name) == catalog.known(entry.source) == entry
    assert catalog.known("nobody/nothing") is None


def test_a_folder_s_manifest_wins(tmp_path: Path) -> None:
    entry = next(iter(KNOWN.values()))
    said = {"steps": 3, "guidance_scale": 2, "scheduler": "ddim", "size": None, "other": 1}
    manifest = {"recommended": said, "source": {"name": entry.source}}
    bundle = Bundle.open(model_folder(tmp_path / "tree", manifest=manifest))
    assert catalog.recommended(bundle, USUAL) == Recommended(64, 3, 2, "ddim")


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"steps": "3"}, "Expected int | null, got str at recommended.steps"),
        ({"size": 10**9}, "Expected int <= 32768 at recommended.size"),
        ({"guidance_scale": -1}, "Expected float >= 0.0 at recommended.guidance_scale"),
        ([], "Expected object | null, got array at recommended"),
    ],
)
def test_a_recommendation_that_makes_no_sense_is_named(
    tmp_path: Path, stated: object, message: str
) -> None:
    folder = model_folder(tmp_path / "tree", manifest={"recommended": stated})
    with pytest.raises(BundleError, match=rf"pleinair\.json: {re.escape(message)}"):
        Bundle.open(folder)


def test_then_the_catalog_by_source_or_by_name(elsewhere: Path, tmp_path: Path) -> None:
    entry = next(entry for entry in KNOWN.values() if entry.scheduler != "lcm")
    expected = Recommended(entry.size, entry.steps, entry.guidance_scale, entry.scheduler)
    source = {"source": {"name": entry.source}}
    by_source = Bundle.open(model_folder(tmp_path / "tree", manifest=source))
    by_name = Bundle.open(model_folder(elsewhere / entry.name))
    for bundle in (by_source, by_name):
        assert catalog.entry_of(bundle) == entry
        assert catalog.recommended(bundle, USUAL) == expected


def test_another_model_of_a_known_one_s_name_is_another(elsewhere: Path, tmp_path: Path) -> None:
    """A name is no source: where the folder states its own, or lies anywhere, it says nothing."""
    name = "sd-turbo"
    stated = {"source": {"kind": "file", "name": "turbo-lookalike.safetensors"}}
    for folder in (
        model_folder(elsewhere / name, manifest=stated),
        model_folder(tmp_path / "work" / name),
    ):
        assert catalog.entry_of(Bundle.open(folder)) is None


def test_with_a_merged_lcm_lora_it_is_another_model(elsewhere: Path, tmp_path: Path) -> None:
    entry = next(entry for entry in KNOWN.values() if entry.scheduler != "lcm")
    bundle = Bundle.open(model_folder(elsewhere / entry.name, scheduler=LCM))
    assert catalog.entry_of(bundle) is None
    assert catalog.recommended(bundle, USUAL) == USUAL


def test_what_nobody_knows_is_as_usual(tmp_path: Path) -> None:
    bundle = Bundle.open(model_folder(tmp_path / "tree"))
    assert catalog.recommended(bundle, USUAL) == USUAL


def test_folders_are_found_by_path_name_or_hub_id(elsewhere: Path) -> None:
    entry = next(e for e in KNOWN.values() if "/" in e.source and e.name != "pocket")
    with pytest.raises(BundleError, match=f"get it with: pleinair pull {entry.name}"):
        catalog.find(entry.source)
    with pytest.raises(BundleError, match="no known model of that name"):
        catalog.find("nothing")
    folder = model_folder(elsewhere / entry.name)
    assert catalog.find(entry.name) == catalog.find(entry.source) == folder
    assert catalog.find(folder) == folder
    model_folder(elsewhere / "tree")
    assert catalog.find("somebody/tree") == elsewhere / "tree"
    assert catalog.find("pocket") == catalog.bundled()


def test_a_fresh_model_is_installed(elsewhere: Path) -> None:
    folder = model_folder(elsewhere / "tree")
    assert folder in catalog.installed()
    assert catalog.bundled() in catalog.installed()


def test_the_user_s_model_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PLEINAIR_MODELS", raising=False)
    for system, variable, under in (
        ("linux", "XDG_DATA_HOME", "pleinair/models"),
        ("win32", "LOCALAPPDATA", "pleinair/models"),
    ):
        monkeypatch.setattr(catalog.sys, "platform", system)
        monkeypatch.setenv(variable, str(tmp_path))
        assert catalog.user_folder() == tmp_path / under
    monkeypatch.setattr(catalog.sys, "platform", "linux")
    monkeypatch.delenv("XDG_DATA_HOME")
    assert catalog.user_folder() == Path.home() / ".local/share/pleinair/models"
    monkeypatch.setenv("PLEINAIR_MODELS", "mine")
    assert catalog.user_folder() == catalog.folders()[0] == Path("mine")
