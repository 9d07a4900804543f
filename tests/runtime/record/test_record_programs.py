"""Pictures of other programs: one sample a program and version, by their published formats."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image
from program_samples import BOAT, EASILY, EASY, FIELDS, INVOKE, PICTURE, SAMPLES, infotext, png

from pleinair.runtime.errors import SettingError
from pleinair.runtime.record import metadata


def read(path: Path, texts: dict[str, str]) -> metadata.Found:
    return metadata.read(png(path / "a.png", texts))


@pytest.mark.parametrize("name", SAMPLES)
def test_samples(tmp_path: Path, name: str) -> None:
    texts, settings, ignored = SAMPLES[name]
    found = read(tmp_path, texts)
    assert found.settings == settings
    assert found.ignored == ignored


@pytest.mark.parametrize("suffix", ["json", "txt"])
def test_files_beside_pictures(tmp_path: Path, suffix: str) -> None:
    """Easy Diffusion's two forms."""
    path = tmp_path / f"a.{suffix}"
    if suffix == "json":
        path.write_text(json.dumps(EASY), encoding="utf-8")
        assert metadata.read(path).settings == EASILY
    else:
        lines = {"Prompt": EASY["prompt"], "Width": 512, "Height": 768, "Seed": 4, "Steps": 12}
        lines |= {"Guidance Scale": 6.5, "Sampler": "euler_a", "Negative Prompt": "fog"}
        lines |= {"Stable Diffusion model": "ink"}
        text = "\n".join(f"{name}: {value}" for name, value in lines.items())
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert metadata.read(path).settings == {**BOAT, "scheduler": "euler_a", "model": "ink"}
    webui = tmp_path / "webui.txt"
    webui.write_text(infotext(FIELDS.format(""))["parameters"] + "\n", encoding="utf-16")
    assert metadata.read(webui).settings == {**BOAT, "scheduler": "euler_a"}


FLAT = {"prompt": "a lighthouse", "negative_prompt": "fog", "seed": "4", "steps": 12}


@pytest.mark.parametrize(
    "said",
    [
        {"sui_image_params": {**FLAT, "negativeprompt": "fog"}},
        {**FLAT, "guidance_scale": 4.0},
        {"c": "a lighthouse", "uc": "fog", "seed": 4, "steps": 12, "scale": 7},
    ],
    ids=["nested", "flat", "short"],
)
@pytest.mark.parametrize("indent", [None, 1])
def test_json_is_never_a_prompt(tmp_path: Path, said: dict[str, Any], indent: int | None) -> None:
    """Where webui's text is looked for, in a PNG and in EXIF."""
    text = json.dumps(said, indent=indent)
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"UNICODE\0" + text.encode(
        "utf-16-be"
    )
    PICTURE.save(tmp_path / "a.jpg", exif=exif)
    for path in (png(tmp_path / "a.png", {"parameters": text}), tmp_path / "a.jpg"):
        settings = metadata.read(path).settings
        assert settings["prompt"] == "a lighthouse"
        assert settings["negative_prompt"] == "fog"
        assert settings["seed"] == 4


@pytest.mark.parametrize(
    "text",
    [
        '{"prompt": "a boat"',
        '{"a": ' * 100_000 + "1" + "}" * 100_000,
        '[["a boat"]]',
        '["a boat"]',
        "[1, 2]",
        '{"unheard": "a boat"}',
        "{}",
        '{"seed": ' + "9" * 10_000 + "}",
        '{"3": {"class_type": 3, "inputs": []}}',
        '{"nodes": 3, "links": 4}',
        '{"nodes": [{"id": 1}], "links": []}',
    ],
    ids=lambda text: text[:20],
)
@pytest.mark.parametrize("name", ["parameters", "prompt", "invokeai_metadata", "Comment"])
def test_json_that_cannot_be_read_is_one_line(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(SettingError) as caught:
        read(tmp_path, {name: text})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_damaged_text_of_ours_is_not_taken_for_another_s(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="does not say how it was made"):
        read(tmp_path, {"pleinair": "{"})


def test_a_prompt_in_brackets_is_no_json(tmp_path: Path) -> None:
    fields = "\nSteps: 2, Seed: 1, Size: 64x64, RNG: CPU"
    assert read(tmp_path, {"parameters": f'{{"red"|b}} boat{fields}'}).settings["seed"] == 1
    for prompt in ("[1girl:boat:0.5]", "{red|blue} boat", "[boat]"):
        for text in (prompt, prompt + fields):
            assert read(tmp_path, {"parameters": text}).settings["prompt"] == prompt


def test_other_languages_of_prompts_are_named(tmp_path: Path) -> None:
    said = json.dumps({**INVOKE, "positive_prompt": "a boat++ (night)1.3"})
    found = read(tmp_path, {"invokeai_metadata": said})
    assert found.ignored == ["the prompt's weights (Compel's language)"]
    texts = {"Software": "NovelAI", "Description": "{{boat}}", "Comment": "{}"}
    assert read(tmp_path, texts).ignored == ["the prompt's weights (NovelAI's)"]
