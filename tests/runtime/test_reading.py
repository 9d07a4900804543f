"""Any picture comes in as diffusers would have it; broken and hostile ones are one clear error."""

import contextlib
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from pictures import hole, painting
from pleinair.runtime.errors import SettingError
from pleinair.runtime.images import reading
from pleinair.runtime.images.fitting import Fit
from pleinair.runtime.images.masks import Mask
from pleinair.runtime.images.original import Original
from pleinair.runtime.images.reading import over, read


def original(image: Any, mask_image: Any = None, **options: Any) -> Original:
    settings = {
        "mask_invert": False,
        "mask_blur": 0.0,
        "resize": "stretch",
        "keep_unmasked": False,
        **options,
    }
    found = Original.read(image, mask_image, **settings)
    assert found is not None
    return found


def dots(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


# How it lies on the canvas: diffusers is the reference.


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (40, 88)], ids=str)
@pytest.mark.parametrize("own", [(64, 64), (75, 90), (300, 40)], ids=str)
@pytest.mark.parametrize(("way", "mode"), [("stretch", "default"), ("crop", "crop")])
def test_pixels_are_diffusers_pixels(
    own: tuple[int, int], size: tuple[int, int], way: str, mode: str
) -> None:
    from diffusers.image_processor import VaeImageProcessor

    picture = painting(*own)
    theirs = VaeImageProcessor().preprocess(
        picture, width=size[0], height=size[1], resize_mode=mode
    )
    ours = original(picture, resize=way).canvas(size, 8).pixels
    assert ours.dtype == np.float32
    assert np.array_equal(ours, theirs.numpy())


@pytest.mark.parametrize("own", [(40, 80), (80, 40), (64, 64)], ids=str)
def test_padding_is_diffusers_fill(own: tuple[int, int]) -> None:
    from diffusers.image_processor import VaeImageProcessor

    picture = painting(*own)
    theirs = VaeImageProcessor().preprocess(picture, width=64, height=64, resize_mode="fill")
    ours = original(picture, resize="pad").canvas((64, 64), 8).pixels
    apart = np.abs(ours - theirs.numpy())[0].max(axis=0) * 127.5
    seen = np.zeros((64, 64), bool)
    seen[:, 16:48] = own[0] <= own[1]
    seen[16:48] |= own[0] >= own[1]
    assert apart[seen].max() == 0
    # Beside the picture diffusers resizes an edge of no height, which is not quite the edge.
    assert apart.max() < 8


def test_floats_are_diffusers_floats() -> None:
    from diffusers.image_processor import VaeImageProcessor

    floats = np.asarray(painting(), np.float32) / 255
    theirs = VaeImageProcessor().preprocess(floats)
    assert np.array_equal(original(floats).canvas((64, 64), 8).pixels, theirs.numpy())


@pytest.mark.parametrize("blur", [0, 5])
@pytest.mark.parametrize("own", [(64, 64), (100, 80)], ids=str)
def test_masks_are_diffusers_masks(own: tuple[int, int], blur: int) -> None:
    import torch
    from diffusers.image_processor import VaeImageProcessor

    processor = VaeImageProcessor(do_normalize=False, do_binarize=True, do_convert_grayscale=True)
    mask = hole(*own)
    blurred = processor.blur(mask, blur) if blur else mask
    theirs = processor.preprocess(blurred, width=72, height=64)
    canvas = original(painting(100, 80), mask, mask_blur=float(blur)).canvas((72, 64), 8)
    assert canvas.mask is not None
    assert np.array_equal(canvas.mask, theirs.numpy())
    small = torch.nn.functional.interpolate(theirs, size=(8, 9))
    assert np.array_equal(canvas.latent_mask(8), small.numpy())


@pytest.mark.parametrize("own", [(75, 90), (300, 40), (7, 200)], ids=str)
@pytest.mark.parametrize("way", ["stretch", "crop", "pad"])
def test_what_is_laid_down_is_lifted_back(own: tuple[int, int], way: str) -> None:
    smooth = painting(*own).filter(ImageFilter.GaussianBlur(20))
    fit = Fit.of(smooth.size, (128, 128), way)
    laid, covered = fit.lay(smooth), fit.covered()
    assert laid.size == (128, 128)
    assert covered.size == own
    inside = np.asarray(covered) > 0
    assert inside.all() if way != "crop" else inside.any()
    error = np.abs(dots(fit.lift(laid)) - dots(smooth))[inside]
    assert error.mean() < 3


def test_the_size_is_the_picture_s_own_rounded_down() -> None:
    assert original(painting(75, 90)).size(8) == (72, 88)
    with pytest.raises(SettingError, match="7x90"):
        original(painting(7, 90)).size(8)


# Kinds of pictures.


def test_every_mode_is_the_same_picture(tmp_path: Path) -> None:
    """Each way of storing grey comes back as that grey."""
    grey = painting().convert("L")
    expected = dots(grey.convert("RGB"))
    sixteen = Image.fromarray(np.asarray(grey, np.uint16) * 257)
    assert sixteen.mode == "I;16"
    kinds = {
        "L": grey,
        "LA": grey.convert("LA"),
        "P": grey.convert("P"),
        "RGBA": grey.convert("RGBA"),
        "RGBX": grey.convert("RGB").convert("RGBX"),
        "CMYK": grey.convert("RGB").convert("CMYK"),
        "YCbCr": grey.convert("RGB").convert("YCbCr"),
        "HSV": grey.convert("RGB").convert("HSV"),
        "I;16": sixteen,
        "I": Image.fromarray(np.asarray(grey, np.int32) * 257),
        "F": Image.fromarray(np.asarray(grey, np.float32) / 255),
        "La": grey.convert("LA").convert("La"),
        "RGBa": grey.convert("RGBA").convert("RGBa"),
    }
    for mode, image in kinds.items():
        found = over(read(image), "white")
        assert found.mode == "RGB", mode
        assert np.abs(dots(found) - expected).max() <= 1, mode
        assert image.mode == mode  # not changed


def test_lab() -> None:
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    picture = painting().filter(ImageFilter.GaussianBlur(5))
    image = ImageCms.profileToProfile(picture, srgb, lab, outputMode="LAB")
    assert image is not None
    assert np.abs(dots(read(image)) - dots(picture)).mean() < 4


def test_one_bit() -> None:
    assert np.array_equal(dots(read(hole().convert("1")))[..., 0], dots(hole()))


def test_sixteen_bits_are_rounded_and_not_cut_off(tmp_path: Path) -> None:
    """Pillow's own conversion of 16 bit grey clips at 255, which is all white."""
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    path = tmp_path / "ramp.png"
    Image.fromarray(ramp).save(path)
    expected = np.rint(ramp / 257)
    assert np.array_equal(dots(read(path))[..., 0], expected)
    assert np.array_equal(dots(read(ramp))[..., 0], expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_as_the_camera_says(tmp_path: Path, orientation: int) -> None:
    """A red bar that is at the top for the beholder, however the file has it."""
    upright = Image.new("RGB", (48, 64), "blue")
    upright.paste("red", (0, 0, 48, 16))
    upright.paste("lime", (0, 0, 8, 8))
    turned = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = upright if turned is None else upright.transpose(turned)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.jpg"
    stored.save(path, quality=100, subsampling=0, exif=exif)
    for source in (path, Image.open(path)):
        found = read(source)
        assert found.size == (48, 64)
        assert np.abs(dots(found) - dots(upright)).max() < 12


def test_transparency_is_over_white() -> None:
    image = Image.new("RGBA", (16, 16), (255, 0, 0, 255))
    image.putpixel((3, 4), (0, 255, 0, 0))
    image.putpixel((5, 6), (0, 0, 0, 128))
    found = over(read(image), "white")
    assert found.getpixel((0, 0)) == (255, 0, 0)
    assert found.getpixel((3, 4)) == (255, 255, 255)
    assert found.getpixel((5, 6)) == (127, 127, 127)


def test_a_palette_with_a_transparent_colour(tmp_path: Path) -> None:
    image = Image.new("P", (16, 16), 1)
    image.putpalette([0, 255, 0, 200, 0, 0])
    image.putpixel((2, 2), 0)
    path = tmp_path / "palette.png"
    image.save(path, transparency=0)
    found = over(read(path), "white")
    assert found.getpixel((2, 2)) == (255, 255, 255)
    assert found.getpixel((0, 0)) == (200, 0, 0)


def test_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    path = tmp_path / "moving.gif"
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "lime")]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert over(read(path), "white").getpixel((8, 8)) == (255, 0, 0)


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "bmp", "tif", "gif", "ppm", "tga"])
def test_formats(tmp_path: Path, ending: str) -> None:
    picture = painting().filter(ImageFilter.GaussianBlur(8))
    path = tmp_path / f"picture.{ending}"
    picture.save(path)
    found = over(read(str(path)), "white")
    assert found.size == (64, 64)
    assert np.abs(dots(found) - dots(picture)).mean() < 12


@pytest.mark.parametrize(
    "array",
    [
        np.full((9, 7), 200, np.uint8),
        np.full((9, 7, 1), 200, np.uint8),
        np.full((1, 9, 7, 3), 200, np.uint8),
        np.full((9, 7, 3), 200 / 255, np.float32),
        np.full((9, 7, 3), 200 / 255, np.float64),
        np.full((9, 7), 200 * 257, np.uint16),
        np.stack([np.full((9, 7), 200), np.full((9, 7), 255)], -1).astype(np.uint8),
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)
def test_arrays(array: np.ndarray) -> None:
    found = over(read(array), "white")
    assert found.size == (7, 9)
    assert found.getpixel((3, 3)) == (200, 200, 200)


# What cannot be read.


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((4, 4, 5), np.uint8), "shape"),
        (np.zeros((0, 4, 3), np.uint8), "shape"),
        (np.zeros((2, 4, 4, 3), np.uint8), "shape"),
        (np.zeros((4, 4, 3), np.int64), "int64"),
        (np.full((4, 4, 3), 200.0), "0 to 1"),
        (np.full((4, 4, 3), -0.1), "0 to 1"),
        (np.full((4, 4, 3), np.nan), "0 to 1"),
        (np.zeros((4, 4, 3), complex), "complex"),
        (b"bytes", "^image: not a picture that can be read"),
        (3, "of type int"),
    ],
    ids=lambda value: (
        f"{value.dtype}{value.shape}" if isinstance(value, np.ndarray) else str(value)
    ),
)
def test_no_picture(source: Any, message: str) -> None:
    with pytest.raises(SettingError, match=message) as caught:
        read(source)
    assert str(caught.value).startswith("image")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"missing\.png: no such picture"):
        read(tmp_path / "missing.png")
    with pytest.raises(SettingError, match="cannot be read"):
        read(tmp_path)


def png_of(width: int, height: int) -> bytes:
    """A PNG that says it is that large, in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [9_200, 9_500, 13_500, 60_000])
@pytest.mark.filterwarnings("error")
def test_decompression_bombs_are_refused(tmp_path: Path, side: int) -> None:
    """Below, at and above the sizes at which Pillow itself warns and refuses."""
    path = tmp_path / "bomb.png"
    path.write_bytes(png_of(side, side))
    with pytest.raises(SettingError, match=r"bomb\.png: more than 80 million pixels"):
        read(path)


def test_a_bomb_that_is_open_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_PIXELS", 1000)
    for source in (painting(), np.zeros((64, 64), np.uint8)):
        with pytest.raises(SettingError, match="image: more than"):
            read(source)


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "bmp", "tif", "gif", "tga"])
def test_cut_off_and_garbled_files(tmp_path: Path, ending: str) -> None:
    """Whatever is wrong, it is a SettingError that names the file, or a picture all the same."""
    buffer = io.BytesIO()
    Image.init()
    painting().save(buffer, format=Image.EXTENSION[f".{ending}"])
    whole = buffer.getvalue()
    random = np.random.default_rng(0)
    path = tmp_path / f"broken.{ending}"
    readable = 0
    for share in (0.0, 0.01, 0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(SettingError, match=r"broken\."):
            read(path)
    for _ in range(40):
        garbled = bytearray(whole)
        for place in random.integers(0, len(whole), 30):
            garbled[place] = random.integers(0, 256)
        path.write_bytes(garbled)
        with contextlib.suppress(SettingError):
            read(path)
            readable += 1
    assert readable < 40 or ending in ("bmp", "tga", "jpg", "gif")  # have no checksums


def test_a_format_that_starts_programs_is_none(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n")
    with pytest.raises(SettingError, match="not a picture"):
        read(path)


# Masks.


def test_the_mask_may_be_the_picture_s_transparency() -> None:
    image = painting().convert("RGBA")
    image.putalpha(Image.eval(hole(), lambda value: 255 - value))
    mask = original(image, "alpha").canvas((64, 64), 8).mask
    assert mask is not None
    assert np.array_equal(mask[0, 0] * 255, dots(hole()))
    with pytest.raises(SettingError, match="no transparent part"):
        original(painting(), "alpha")


def test_an_inverted_mask() -> None:
    plain = original(painting(), hole()).canvas((64, 64), 8).mask
    inverted = original(painting(), hole(), mask_invert=True).canvas((64, 64), 8).mask
    assert plain is not None
    assert inverted is not None
    assert np.array_equal(plain + inverted, np.ones_like(plain))


def test_a_blurred_mask_has_a_soft_edge() -> None:
    weights = dots(Mask.read(hole(), painting(), blur=4.0).weights)
    assert {0, 255} < set(np.unique(weights).tolist())
    assert weights[32, 32] == 255
    assert weights[63, 63] == 0


def test_white_strokes_on_a_transparent_ground_are_a_mask() -> None:
    strokes = Image.new("RGBA", (64, 64), (255, 255, 255, 0))
    strokes.paste((255, 255, 255, 255), (8, 8, 24, 24))
    mask = dots(Mask.read(strokes, painting()).weights)
    assert mask[16, 16] == 255
    assert mask[40, 40] == 0


@pytest.mark.parametrize("blur", [-1.0, 4097.0, 1e300, float("nan"), float("inf")])
def test_blur_out_of_range(blur: float) -> None:
    with pytest.raises(SettingError, match="mask_blur"):
        original(painting(), hole(), mask_blur=blur)


def test_an_unknown_way_to_resize() -> None:
    with pytest.raises(SettingError, match="stretch, crop, pad"):
        original(painting(), resize="fill").canvas((64, 64), 8)


# The picture around the mask.


@pytest.mark.parametrize("way", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("own", [(64, 64), (75, 90), (300, 40)], ids=str)
def test_outside_the_mask_nothing_changes(own: tuple[int, int], way: str) -> None:
    picture, mask = painting(*own), hole(*own)
    painted = Image.new("RGB", (64, 64), (1, 2, 3))
    found = dots(original(picture, mask, resize=way, keep_unmasked=True).around(painted))
    outside = dots(mask) == 0
    assert np.array_equal(found[outside], dots(picture)[outside])
    inside = found[~outside]
    new = (inside == (1, 2, 3)).all(axis=1)
    assert new.all() if way != "crop" else new.any()


def test_a_mask_of_little_noise_is_black_there() -> None:
    """As JPEG leaves it: without a blur a mask is white or black."""
    noisy = Image.fromarray(np.random.default_rng(0).integers(0, 30, (64, 64), dtype=np.uint8))
    noisy.paste(255, (16, 16, 48, 48))
    picture = painting()
    found = original(picture, noisy, keep_unmasked=True).around(Image.new("RGB", (64, 64)))
    assert np.array_equal(dots(found)[:16], dots(picture)[:16])


def test_the_overlay_is_diffusers_overlay() -> None:
    from diffusers.image_processor import VaeImageProcessor

    picture, mask, painted = painting(), hole(), painting(seed=1)
    for blur in (0.0, 4.0):
        ours = original(picture, mask, mask_blur=blur, keep_unmasked=True)
        assert ours.mask is not None
        theirs = VaeImageProcessor().apply_overlay(ours.mask.weights, picture, painted)
        assert np.abs(dots(ours.around(painted)) - dots(theirs)).max() <= 2


# Files as bytes, and opened by somebody else.


def saved(format: str = "PNG") -> bytes:
    file = io.BytesIO()
    painting(30, 20).save(file, format)
    return file.getvalue()


class Pipe(io.RawIOBase):
    """A file that cannot be wound back, nor read twice."""

    def __init__(self, data: bytes) -> None:
        self._rest = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._rest.readinto(buffer)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, io.BytesIO, Pipe])
def test_a_file_s_bytes_are_as_the_file(kind: Any, tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    file.write_bytes(saved())
    assert np.array_equal(read(kind(saved())), read(file))


def test_an_open_file_is_read_from_its_beginning(tmp_path: Path) -> None:
    file = io.BytesIO()
    painting(30, 20).save(file, "PNG")  # which leaves it at its end
    assert read(file).size == read(file).size == (30, 20)
    path = tmp_path / "picture.png"
    path.write_bytes(saved())
    with path.open("rb") as opened:
        assert read(opened).size == (30, 20)
        assert not opened.closed


class Failing:
    def read(self, size: int) -> bytes:
        raise RuntimeError("gone")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (io.StringIO("text"), "mask_image is a file that gives str; open it in binary"),
        (Failing(), "mask_image: the file cannot be read: gone"),
        (io.BytesIO(saved()[:100]), "mask_image: "),
        (io.BytesIO(), "mask_image: not a picture"),
    ],
    ids=["text", "failing", "truncated", "empty"],
)
def test_an_open_file_that_is_no_picture(source: Any, message: str) -> None:
    with pytest.raises(SettingError, match=f"^{message}"):
        read(source, "mask_image")


def test_no_endless_file_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless:
        def read(self, size: int) -> bytes:
            return bytes(size)

    monkeypatch.setattr(reading, "_MOST_BYTES", 1000)
    with pytest.raises(SettingError, match=r"^image: more than"):
        read(Endless())
