"""The invisible watermark: what the package of CompVis's scripts writes is read, and held to.

watermarked/ has two pictures that invisible-watermark 0.2.0 (dwtDct, "StableDiffusionV1") marked:
a plain grey one, and one of grey bands on which its own reader gets some letters wrong.
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pleinair.runtime.errors import SettingError
from pleinair.runtime.images import watermark

HERE = Path(__file__).parent / "watermarked"


def landscape(width: int = 512, height: int = 384) -> Image.Image:
    """Smooth colours with grain, as painted pictures have them."""
    random = np.random.RandomState(0)
    coarse = Image.fromarray(random.randint(0, 256, (12, 16, 3)).astype(np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float64)
    grain = random.normal(0, 4, smooth.shape)
    return Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("name", "read_by_the_package"),
    [("grey", b"StableDiffusionV1"), ("bands", b"\xfftab\xffeDi\xfffus\xffonV1")],
)
def test_reads_what_the_package_reads_of_its_own_marks(
    name: str, read_by_the_package: bytes
) -> None:
    assert watermark.extract(Image.open(HERE / f"{name}.png")) == read_by_the_package


@pytest.mark.parametrize("picture", [landscape(), landscape(301, 387)], ids=["even", "odd"])
def test_a_mark_is_read_back_and_hardly_seen(picture: Image.Image) -> None:
    marked = watermark.embed(picture)
    assert marked.size == picture.size
    assert watermark.extract(marked) == b"StableDiffusionV1"
    assert watermark.extract(picture) != b"StableDiffusionV1"
    difference = np.asarray(marked, np.float64) - np.asarray(picture)
    assert 10 * np.log10(255**2 / np.mean(difference**2)) > 36


@pytest.mark.parametrize("colour", ["white", "black", "red", "yellow", "lightblue", "gray"])
def test_plain_colours_hold_the_mark(colour: str) -> None:
    """Where the package's own embedder loses it: white has no room for more blue."""
    marked = watermark.embed(Image.new("RGB", (256, 256), colour))
    assert watermark.extract(marked) == b"StableDiffusionV1"


def test_other_texts() -> None:
    text = "für Ada, 蓝"
    length = len(text.encode())
    assert watermark.extract(watermark.embed(landscape(), text), length).decode() == text


def test_survives_a_light_jpeg(tmp_path: Path) -> None:
    """With the chroma kept whole; halved, as JPEG mostly does, it is gone, as the package's is."""
    watermark.embed(landscape()).save(tmp_path / "a.jpg", quality=95, subsampling=0)
    assert watermark.extract(Image.open(tmp_path / "a.jpg")) == b"StableDiffusionV1"


@pytest.mark.parametrize(
    ("size", "text", "says"),
    [
        ((64, 64), "a", "too small"),
        ((256, 256), "a" * 200, "holds 128"),
        ((256, 256), "", "empty"),
    ],
)
def test_what_cannot_be_marked(size: tuple[int, int], text: str, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        watermark.embed(Image.new("RGB", size), text)
