"""Pictures are saved whole or not at all, and never over another file."""

import hashlib
import os
from pathlib import Path

import pytest
from PIL import Image

from pleinair.runtime.errors import SettingError
from pleinair.runtime.images.grid import grid
from pleinair.runtime.record.saving import save, save_numbered, sweep

RED = Image.new("RGB", (8, 8), "red")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "A.PNG"])
def test_saves_what_the_ending_says(tmp_path: Path, name: str) -> None:
    path = save(RED, tmp_path / "new" / name, {"prompt": "red"})
    assert Image.open(path).size == (8, 8)
    assert [file.name for file in path.parent.iterdir()] == [name]


def test_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"precious")
    with pytest.raises(SettingError, match="exists already"):
        save(RED, path)
    assert path.read_bytes() == b"precious"
    assert len(list(tmp_path.iterdir())) == 1


def test_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    path = save(RED, tmp_path / "a.png")
    with pytest.raises(SettingError, match="exists already"):
        save(RED, path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SettingError, match="No space left"):
        save(RED, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_numbers_go_on_after_the_highest(tmp_path: Path) -> None:
    (tmp_path / "00007.png").touch()
    (tmp_path / "00009.txt").touch()
    (tmp_path / "notes.png").touch()
    assert save_numbered(RED, tmp_path).name == "00010.png"
    assert save_numbered(RED, tmp_path, prefix="grid-", digits=4).name == "grid-0000.png"


def test_a_number_taken_meanwhile_is_passed_over(tmp_path: Path) -> None:
    tried = []

    def beaten_once(path: Path, digest: str) -> None:
        if not tried:
            path.touch()  # another process is quicker
        tried.append(path.name)

    assert save_numbered(RED, tmp_path, announce=beaten_once).name == "00001.png"
    assert tried == ["00000.png", "00001.png"]
    assert (tmp_path / "00000.png").read_bytes() == b""


def test_a_file_is_announced_when_it_is_whole_and_before_it_has_its_name(tmp_path: Path) -> None:
    told = []

    def announce(path: Path, digest: str) -> None:
        (part,) = tmp_path.iterdir()
        told.append((path, digest, part.name.endswith(".partial"), part.read_bytes()))

    path = save_numbered(RED, tmp_path, owner="job", announce=announce)
    content = path.read_bytes()
    assert told == [(path, hashlib.sha256(content).hexdigest(), True, content)]


def test_only_the_owners_unfinished_files_are_swept(tmp_path: Path) -> None:
    for name in (".a.png.job-1f.partial", ".a.png.other-1f.partial", "a.png"):
        (tmp_path / name).touch()
    sweep(tmp_path, "job")
    assert sorted(file.name for file in tmp_path.iterdir()) == [".a.png.other-1f.partial", "a.png"]


def test_grid() -> None:
    colours = ["red", "green", "blue"]
    sheet = grid([Image.new("RGB", (4, 2), colour) for colour in colours], columns=2)
    assert sheet.size == (8, 4)
    assert sheet.getpixel((0, 0)) == (255, 0, 0)
    assert sheet.getpixel((4, 0)) == (0, 128, 0)
    assert sheet.getpixel((0, 2)) == (0, 0, 255)
    assert sheet.getpixel((4, 2)) == (255, 255, 255)
