"""The texts in files: every way in which one stands in a PNG, in EXIF, in a file of its own."""

from pathlib import Path

import pytest
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from pleinair.runtime.errors import SettingError
from pleinair.runtime.record.texts import MAIN, texts_of

TEXT = "a boat, 蓝色\nSteps: 2, Seed: 1, Size: 64x64"
PICTURE = Image.new("RGB", (8, 8))


@pytest.mark.parametrize("kind", ["tEXt", "iTXt", "iTXt zipped", "zTXt"])
def test_chunks_of_png(tmp_path: Path, kind: str) -> None:
    text = TEXT if kind.startswith("iTXt") else TEXT.replace("蓝色", "é")
    info = PngInfo()
    if kind.startswith("iTXt"):
        info.add_itxt(MAIN, text, zip=kind.endswith("zipped"))
    else:
        info.add_text(MAIN, text, zip=kind == "zTXt")
    PICTURE.save(tmp_path / "a.png", pnginfo=info)
    assert texts_of(tmp_path / "a.png")[MAIN] == text


@pytest.mark.parametrize(
    "comment",
    [
        b"UNICODE\0" + TEXT.encode("utf-16-be"),
        b"UNICODE\0" + TEXT.encode("utf-16-le"),
        b"UNICODE\0" + TEXT.encode("utf-16"),
        b"UNICODE\0" + TEXT.encode(),
        b"ASCII\0\0\0" + TEXT.encode(),
        b"\0" * 8 + TEXT.encode(),
        TEXT.encode(),
    ],
    ids=["be", "le", "mark", "utf-8", "ascii", "undefined", "bare"],
)
@pytest.mark.parametrize("name", ["a.jpg", "a.webp", "a.png"])
def test_user_comments(tmp_path: Path, name: str, comment: bytes) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 1  # without a tag like this Pillow writes none into a PNG
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    PICTURE.save(tmp_path / name, exif=exif)
    assert texts_of(tmp_path / name)[MAIN] == TEXT


def test_a_comment_among_the_first_tags(tmp_path: Path) -> None:
    """Where Fooocus puts it."""
    exif = Image.Exif()
    exif[ExifTags.Base.UserComment] = "{}"
    PICTURE.save(tmp_path / "a.webp", exif=exif)
    assert texts_of(tmp_path / "a.webp")[MAIN] == "{}"


@pytest.mark.parametrize("name", ["n" * 5000 + ".png", "a\0b.png", "n" * 5000 + ".json"])
def test_names_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingError, match="no such picture file") as caught:
        texts_of(tmp_path / name)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("content", [b"\xff\xfe\0", b"\x80abc", b" " * ((1 << 20) + 1)])
def test_text_files_that_are_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(SettingError, match=r"cannot be read as text|too large"):
        texts_of(tmp_path / "a.txt")
