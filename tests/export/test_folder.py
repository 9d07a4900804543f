"""A folder appears whole or not at all."""

import errno
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from pleinair.export import folder
from pleinair.runtime.errors import ExportError


def _names(parent: Path) -> list[str]:
    return sorted(path.name for path in parent.iterdir())


def test_a_folder_appears_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "models" / "sd"
    with folder.publishing(target) as partial:
        (partial / "unet").mkdir()
        (partial / "unet" / "graph").write_text("x")
        assert not target.exists()
        assert partial.parent == target.parent, "a rename must not cross disks"
        assert partial.name.startswith(".")
    assert (target / "unet" / "graph").read_text() == "x"
    assert _names(target.parent) == ["sd"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_nothing(tmp_path: Path, failure: type[BaseException]) -> None:
    def fail() -> None:
        with folder.publishing(tmp_path / "sd") as partial:
            (partial / "graph").write_text("half")
            raise failure

    with pytest.raises(failure):
        fail()
    assert _names(tmp_path) == []


def test_an_existing_folder_is_refused_and_untouched(tmp_path: Path) -> None:
    target = tmp_path / "sd"
    target.mkdir()
    (target / "mine").write_text("mine")
    with pytest.raises(ExportError, match=r"sd exists.*--overwrite"), folder.publishing(target):
        pytest.fail("the block must not run")
    assert _names(tmp_path) == ["sd"]
    assert (target / "mine").read_text() == "mine"


def _old_model(parent: Path) -> Path:
    target = parent / "sd"
    target.mkdir()
    (target / "model_index.json").write_text("{}")
    (target / "old").write_text("old")
    return target


def test_overwrite_never_replaces_what_is_no_model_folder(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with (
        pytest.raises(ExportError, match="no model folder"),
        folder.publishing(tmp_path, overwrite=True),
    ):
        pytest.fail("the block must not run")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_overwrite_swaps(tmp_path: Path) -> None:
    target = _old_model(tmp_path)
    with folder.publishing(target, overwrite=True) as partial:
        (partial / "new").write_text("new")
        assert (target / "old").exists(), "the old folder stays until the new one is whole"
    assert _names(target) == ["new"]
    assert _names(tmp_path) == ["sd"]


def test_a_failed_swap_brings_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = _old_model(tmp_path)
    rename = Path.rename

    def failing(self: Path, to: Path) -> Path:
        if ".partial-" in self.name:
            raise OSError("disk error")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", failing)
    with (
        pytest.raises(ExportError, match="disk error"),
        folder.publishing(target, overwrite=True) as partial,
    ):
        (partial / "new").write_text("new")
    assert _names(target) == ["model_index.json", "old"]
    assert _names(tmp_path) == ["sd"]


def test_what_a_killed_export_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".sd.partial-dead" / "unet").mkdir(parents=True)
    (tmp_path / ".sd2.partial-alive").mkdir()
    with folder.publishing(tmp_path / "sd") as partial:
        (partial / "graph").write_text("x")
    assert _names(tmp_path) == [".sd2.partial-alive", "sd"]


def test_a_folder_moved_aside_by_a_killed_swap_comes_back(tmp_path: Path) -> None:
    (tmp_path / ".sd.replaced").mkdir()
    (tmp_path / ".sd.replaced" / "old").write_text("old")
    with pytest.raises(RuntimeError), folder.publishing(tmp_path / "sd"):
        raise RuntimeError
    assert _names(tmp_path / "sd") == ["old"]


def test_two_exports_to_one_folder(tmp_path: Path) -> None:
    with (
        folder.publishing(tmp_path / "sd") as first,
        pytest.raises(ExportError, match="another export"),
        folder.publishing(tmp_path / "sd"),
    ):
        pytest.fail("the block must not run")
    assert not first.exists(), "the first ends with its block, here by the error above"


def test_no_disk_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_500_000_000))
    folder.require_space(tmp_path / "deep" / "sd", 1_400_000_000)
    with pytest.raises(ExportError, match=r"needs 1\.6 GB .* has 1\.5 GB free"):
        folder.require_space(tmp_path / "deep" / "sd", 1_600_000_000)


def test_a_disk_that_fills_up_on_the_way(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="is full"), folder.publishing(tmp_path / "sd"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert _names(tmp_path) == []


def test_a_target_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(ExportError, match="cannot write"),
        folder.publishing(tmp_path / "file" / "sd"),
    ):
        pytest.fail("the block must not run")
