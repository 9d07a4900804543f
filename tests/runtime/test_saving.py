"""Pictures are saved whole or not at all, and never over another file."""

import hashlib
import os
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from pleinair import runtime
from pleinair.runtime.errors import SettingError
from pleinair.runtime.images.grid import grid
from pleinair.runtime.record import metadata
from pleinair.runtime.record.saving import check_target, save, save_numbered, sweep

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


@pytest.mark.parametrize(
    "name", ["a.gif", "a.bmp", "a.ppm", "a.tiff", "a.pdf", "a.avif", "a", "a."]
)
def test_formats_that_cannot_say_how_a_picture_was_made(tmp_path: Path, name: str) -> None:
    """Refused before painting, and when it is saved."""
    for refused in (check_target, partial(save, RED)):
        with pytest.raises(SettingError, match=r"end the name in \.png, \.jpg or \.webp"):
            refused(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("taken", ["9" * 250, "9" * 16, "٣", "²", "00004-9"])
def test_names_that_only_look_like_numbers(tmp_path: Path, taken: str) -> None:
    (tmp_path / f"{taken}.png").touch()
    (tmp_path / "00003.png").mkdir()
    assert [save_numbered(RED, tmp_path).name for _ in range(2)] == ["00004.png", "00005.png"]


def test_a_folder_that_nobody_may_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "00000.png").touch()
    (tmp_path / "00001.png").touch()
    monkeypatch.setattr(Path, "glob", lambda *arguments: iter(()))
    assert save_numbered(RED, tmp_path).name == "00002.png"


@pytest.mark.parametrize("name", ["é" * 120 + ".png", "n" * 250 + ".png"])
def test_the_longest_names(tmp_path: Path, name: str) -> None:
    assert save(RED, tmp_path / name).is_file()
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["n" * 300 + ".png", "a\0.png", "file/a.png"])
def test_what_cannot_be_written_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    for write in (check_target, partial(save, RED)):
        with pytest.raises(SettingError, match="cannot be written") as caught:
            write(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_picture_too_large_for_its_format(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="cannot be written"):
        save(Image.new("L", (20_000, 1)), tmp_path / "a.webp")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("image", [None, [[0.5]]])
def test_only_pictures_are_saved(tmp_path: Path, image: object) -> None:
    """None is what stands for a picture that was withheld."""
    with pytest.raises(SettingError, match="give a PIL picture"):
        save(image, tmp_path / "a.png")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_a_picture_s_own_word_is_saved_with_it(tmp_path: Path, name: str) -> None:
    picture = RED.copy()
    picture.info.update(metadata.described({"prompt": "a boat", "seed": 3}))
    assert runtime.save(picture, str(tmp_path / name)) == tmp_path / name
    assert metadata.read(tmp_path / name).settings == {"prompt": "a boat", "seed": 3}


def test_a_stranger_s_word_is_checked_before_it_is_saved(tmp_path: Path) -> None:
    picture = RED.copy()
    picture.info["pleinair"] = '{"loras": 3, "prompt": ["a"], "enlarge": "x", "seed": 5}'
    assert metadata.read(save(picture, tmp_path / "a.png")).settings == {"seed": 5}
