"""How a picture was made comes back out of its file; what strangers put there does no harm."""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pleinair.runtime import schedulers
from pleinair.runtime.errors import SettingError
from pleinair.runtime.record import infotext, metadata
from pleinair.runtime.record.saving import save

MADE: dict[str, Any] = {
    "prompt": "a red apple 蓝色, 🍎\nNegative prompt: of a prankster\nSteps: 1, a: 2, b: 3",
    "negative_prompt": 'blurry, "quoted"',
    "num_inference_steps": 20,
    "scheduler": "dpmpp_2m_karras",
    "guidance_scale": 7.5,
    "seed": 2**63,
    "width": 512,
    "height": 768,
    "eta": 0.0,
    "clip_skip": 1,
    "model": "a, model: mine",
    "version": "Pleinair 0.1.0",
}
PICTURE = Image.new("RGB", (64, 64), "red")

# Written by webui 1.4, 1.9 and by people.
WEBUI = """\
a boat, by night
on a lake
Negative prompt: fog,
(blurry:1.2)
Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 965400086, Size: 512x768, \
Model hash: 45dee52b, Model: "v1-5, pruned: ema", Clip skip: 2, ENSD: 31337, \
Lora hashes: "a: 1f, b: 2e", Version: v1.4.0"""


def png(path: Path, **texts: str) -> Path:
    info = PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    PICTURE.save(path, pnginfo=info)
    return path


def chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def with_chunks(path: Path, chunks: bytes) -> Path:
    """A PNG with chunks put before its pixels."""
    PICTURE.save(path)
    content = path.read_bytes()
    start = content.index(b"IDAT") - 4
    path.write_bytes(content[:start] + chunks + content[start:])
    return path


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.jpeg", "a.webp"])
def test_everything_comes_back(tmp_path: Path, name: str) -> None:
    found = metadata.read(save(PICTURE, tmp_path / name, MADE))
    assert found == metadata.Found(MADE, [])


def test_the_text_is_webuis() -> None:
    made = {**MADE, "prompt": "a boat\nby night", "seed": 3, "eta": 0.5}
    assert infotext.write(made) == (
        'a boat\nby night\nNegative prompt: blurry, "quoted"\n'
        "Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7.5, Seed: 3, Size: 512x768, "
        'Model: "a, model: mine", Clip skip: 2, Eta DDIM: 0.5, RNG: CPU, Version: Pleinair 0.1.0'
    )


@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
def test_exif_is_as_piexif_writes_it(tmp_path: Path, name: str) -> None:
    image = Image.open(save(PICTURE, tmp_path / name, MADE))
    comment = image.getexif().get_ifd(0x8769)[0x9286]
    assert comment[:8] == b"UNICODE\0"
    assert comment[8:].decode("utf-16-be") == infotext.write(MADE)
    # of type UNDEFINED: of any other, piexif and so webui cannot make text
    entries = [struct.pack(f"{order}HHL", 0x9286, 7, len(comment)) for order in "<>"]
    assert any(entry in image.info["exif"] for entry in entries)


@pytest.mark.parametrize("name", schedulers.names())
def test_sampler_names_go_both_ways(name: str) -> None:
    text = infotext.write({**MADE, "prompt": "a", "scheduler": name})
    assert infotext.read(text)[0]["scheduler"] == name


@pytest.mark.parametrize(
    ("fields", "ours"),
    [
        ("Sampler: Euler a", "euler_a"),
        ("Sampler: DPM++ 2M, Schedule type: Karras", "dpmpp_2m_karras"),
        ("Sampler: DPM++ 2M, Schedule type: Automatic", "dpmpp_2m"),
        ("Sampler: UniPC", "unipc"),
        ("Sampler: dpmpp_2s_karras", "dpmpp_2s_karras"),
        ("Sampler: Restart", None),
    ],
)
def test_samplers_of_webui(fields: str, ours: str | None) -> None:
    settings, ignored = infotext.read(f"a\nSteps: 2, {fields}, Size: 64x64")
    assert settings.get("scheduler") == ours
    assert ignored == ([] if ours else ["Sampler"])


def test_webuis_own_pictures_are_read(tmp_path: Path) -> None:
    found = metadata.read(png(tmp_path / "a.png", parameters=WEBUI))
    assert found.settings == {
        "prompt": "a boat, by night\non a lake",
        "negative_prompt": "fog,\n(blurry:1.2)",
        "num_inference_steps": 20,
        "scheduler": "dpmpp_2m_karras",
        "guidance_scale": 7.0,
        "seed": 965400086,
        "width": 512,
        "height": 768,
        "model": "v1-5, pruned: ema",
        "clip_layer": 2,
        "version": "v1.4.0",
    }
    *fields, noise = found.ignored
    assert fields == ["Model hash", "ENSD", "Lora hashes"]
    assert noise.startswith("RNG (webui's numbers are a GPU's")


def test_a_prompt_alone_is_a_prompt() -> None:
    assert infotext.read("one\nStyle: noir, mood: dark") == (
        {"prompt": "one\nStyle: noir, mood: dark"},
        [],
    )


def test_ours_goes_before_webuis(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", parameters=WEBUI, pleinair=json.dumps({"prompt": "ours"}))
    assert metadata.read(path).settings == {"prompt": "ours"}


def test_the_form_of_stable_diffusion_openvino(tmp_path: Path) -> None:
    """bes-dev's demo.py: each argument a text of its own, as str() writes it."""
    said = {"model": "bes-dev/stable-diffusion-v1-4-openvino", "seed": "1", "eta": "0.0"}
    said |= {"beta_start": "0.00085", "beta_end": "0.012", "beta_schedule": "scaled_linear"}
    said |= {"num_inference_steps": "32", "guidance_scale": "7.5", "prompt": "street art"}
    said |= {"tokenizer": "openai/clip-vit-large-patch14", "strength": "0.5"}
    texts = {f"stable_diffusion_{name}": value for name, value in said.items()}
    expected = {
        "prompt": "street art",
        "seed": 1,
        "num_inference_steps": 32,
        "guidance_scale": 7.5,
        "eta": 0.0,
        "scheduler": "lms",
        "width": 512,
        "height": 512,
        "beta_start": 0.00085,
        "beta_schedule": "scaled_linear",
    }
    exif = Image.Exif()
    exif[0x0131], exif[0x010E] = "stable_diffusion.openvino", json.dumps(texts)
    PICTURE.save(tmp_path / "a.jpg", exif=exif)
    for path in (png(tmp_path / "a.png", **texts), tmp_path / "a.jpg"):
        found = metadata.read(path)
        assert expected.items() <= found.settings.items()
        assert "tokenizer" in found.ignored
    texts = {"tool": "stable diffusion openvino 1.4", "prompt": "street art", "seed": "1"}
    texts |= {"num-inference-steps": "32", "guidancescale": "7.5", "dimension": "512x512"}
    found = metadata.read(png(tmp_path / "b.png", **texts))
    assert found.settings["num_inference_steps"] == 32
    assert found.settings["guidance_scale"] == 7.5


def test_texts_after_the_pixels(tmp_path: Path) -> None:
    PICTURE.save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    end = content.index(b"IEND") - 4
    late = chunk(b"tEXt", b"parameters\0" + WEBUI.encode())
    (tmp_path / "a.png").write_bytes(content[:end] + late + content[end:])
    assert metadata.read(tmp_path / "a.png").settings["seed"] == 965400086


@pytest.mark.parametrize("order", ["be", "le"])
def test_user_comments_of_either_byte_order(tmp_path: Path, order: str) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + WEBUI.encode(f"utf-16-{order}")
    PICTURE.save(tmp_path / "a.webp", exif=exif)
    assert metadata.read(tmp_path / "a.webp").settings["seed"] == 965400086


def test_values_of_wrong_types_are_left_out_and_named(tmp_path: Path) -> None:
    said = '{"prompt": ["a"], "seed": 1.5, "width": true, "height": 10000000, "eta": NaN, '
    said += '"num_inference_steps": "many", "scheduler": "__import__", "guidance_scale": 7, '
    said += '"negative_prompt": "\\ud800", "model": "\\u001b[2Jx", "__class__": {}}'
    found = metadata.read(png(tmp_path / "a.png", pleinair=said))
    assert found.settings == {"guidance_scale": 7.0, "model": "\x1b[2Jx"}
    names = {words.partition(" ")[0] for words in found.ignored}
    assert names == {
        *("prompt", "seed", "width", "height", "eta", "num_inference_steps"),
        *("scheduler", "negative_prompt", "__class__"),
    }
    assert "\x1b" not in metadata.shown(found.settings["model"])
    assert all(words.isprintable() and len(words) < 100 for words in found.ignored)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"seed": ' + "9" * 10_000 + "}", "null", '"a"', "\x80\x04\x95."],
    ids=["deep", "long number", "null", "string", "pickle"],
)
def test_json_that_is_none_of_ours(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingError, match="does not say how it was made"):
        metadata.read(png(tmp_path / "a.png", pleinair=text))
    # and webui's text beside it counts
    found = metadata.read(png(tmp_path / "b.png", pleinair=text, parameters=WEBUI))
    assert found.settings["seed"] == 965400086


@pytest.mark.parametrize(
    "data",
    [
        chunk(b"zTXt", b"pleinair\0\0" + zlib.compress(b"a" * (64 << 20))),
        chunk(b"iTXt", b"pleinair\0\1\0\0\0" + zlib.compress(b"a" * (64 << 20))),
        chunk(b"tEXt", b"pleinair\0" + b"a" * (1 << 20)) * 65,
    ],
    ids=["zTXt", "iTXt", "many"],
)
def test_texts_that_unfold_without_end(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(SettingError, match="cannot be read as a picture"):
        metadata.read(with_chunks(tmp_path / "a.png", data))


def test_a_text_over_a_megabyte_says_nothing(tmp_path: Path) -> None:
    long = chunk(b"tEXt", b"parameters\0" + b"Steps: 1, " * 200_000)
    with pytest.raises(SettingError, match="does not say"):
        metadata.read(with_chunks(tmp_path / "a.png", long))


@pytest.mark.parametrize(
    "text",
    ["a" * (1 << 20), "a:" * 300_000, 'a:"' * 300_000, "Size: " + "1" * 100_000 + "x1, " * 3],
    ids=["letters", "colons", "quotes", "digits"],
)
def test_texts_that_take_regular_expressions_hours(text: str) -> None:
    """Too few fields: all of it is a prompt. With others before it, it is a field or a prompt."""
    assert infotext.read(text) == ({"prompt": text.strip()}, [])
    settings, ignored = infotext.read(f"boat\nSteps: 2, RNG: CPU, Eta: 0, {text}")
    assert settings == {"prompt": "boat", "num_inference_steps": "2"}
    assert ignored == ["Eta", *([text[: text.find(":")]] if ":" in text else [])]


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe\n", b"GIF89a" * 9])
def test_files_that_are_no_pictures_of_ours(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(SettingError, match="cannot be read as a picture"):
        metadata.read(tmp_path / "a.png")


def test_what_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere.png"):
        with pytest.raises(SettingError, match="no such picture file"):
            metadata.read(path)


def test_damaged_files_raise_nothing_else(tmp_path: Path) -> None:
    """Every byte of the metadata turned over in turn, in each format."""
    for name in ("a.png", "a.jpg", "a.webp"):
        content = save(PICTURE, tmp_path / name, {"prompt": "boat", "seed": 1}).read_bytes()
        damaged = tmp_path / f"damaged-{name}"
        for place in range(0, len(content), 3):
            damaged.write_bytes(
                content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]
            )
            try:
                found = metadata.read(damaged)
            except SettingError:
                continue
            assert found.settings.keys() <= metadata.TYPES.keys()


def test_a_prompt_too_long_for_exif_costs_no_picture(tmp_path: Path) -> None:
    long = {**MADE, "prompt": "word " * 10_000}
    path = save(PICTURE, tmp_path / "a.jpg", long)
    assert metadata.read(path).settings == long  # our JSON is the smaller of the two
    longer = {**MADE, "prompt": "word " * 20_000}
    assert Image.open(save(PICTURE, tmp_path / "b.jpg", longer)).size == (64, 64)
    assert metadata.read(save(PICTURE, tmp_path / "a.png", longer)).settings == longer


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_a_files_bytes_say_what_the_file_does(tmp_path: Path, name: str) -> None:
    path = save(PICTURE, tmp_path / name, MADE)
    assert metadata.read(path.read_bytes()) == metadata.read(path)


def test_bytes_that_are_no_picture() -> None:
    with pytest.raises(SettingError, match=r"^the picture: .*no PNG, JPEG or WebP$"):
        metadata.read(b"no picture")
