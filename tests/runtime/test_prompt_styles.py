"""Style presets: the data file is sound, and a preset is put around the user's words."""

import re

import pytest

from pleinair.runtime.errors import SettingError
from pleinair.runtime.text.emphasis import emphasised
from pleinair.runtime.text.styles import apply, styles


def test_the_data_file() -> None:
    presets = styles()
    assert len(presets) >= 60
    assert {style.kind for style in presets.values()} == {
        "image type",
        "style",
        "aesthetic",
        "artist",
    }
    for name, style in presets.items():
        assert style.name == name
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
        assert style.prompt.count("{prompt}") == 1, name
        words = style.prompt.replace("{prompt}", "") + style.negative
        assert len(emphasised(words)) == 1
        assert not set(words) & set("()[]{}|\\_"), name  # text, in every syntax


@pytest.mark.parametrize(
    "name", ["oil-painting", "photograph", "pencil-sketch", "vaporwave", "art-nouveau", "cyberpunk"]
)
def test_the_known_ones_are_there(name: str) -> None:
    assert name in styles()


@pytest.mark.parametrize("name", ["van-gogh", "hokusai", "monet"])
def test_artists(name: str) -> None:
    assert styles()[name].kind == "artist"


def test_a_style_is_put_around_the_prompt() -> None:
    vaporwave = styles()["vaporwave"]
    assert vaporwave.prompt.startswith("{prompt}, vaporwave")
    prompt, negative = apply(["vaporwave"], "a (red:1.2) {apple}", "blurry")
    assert prompt == vaporwave.prompt.replace("{prompt}", "a (red:1.2) {apple}")
    assert negative == f"blurry, {vaporwave.negative}"
    assert apply(["vaporwave"], "apple")[1] == vaporwave.negative
    assert apply([], "apple", "blurry") == ("apple", "blurry")


def test_styles_go_on_top_of_each_other() -> None:
    prompt, negative = apply(["oil-painting", "van-gogh"], "boat")
    assert prompt.startswith("oil painting of boat, ")
    assert "van Gogh" in prompt
    assert negative.count("3d render") == 2  # both ask for it; that does no harm


@pytest.mark.parametrize("name", ["Oil Painting", "oil_painting", "  OIL-painting "])
def test_names_as_people_type_them(name: str) -> None:
    assert apply([name], "boat") == apply(["oil-painting"], "boat")


@pytest.mark.parametrize(
    ("name", "says"),
    [("vaporwav", "vaporwave"), ("Painting", "oil-painting"), ("vangogh", "van-gogh")],
)
def test_unknown_names_get_close_ones(name: str, says: str) -> None:
    with pytest.raises(SettingError, match=f"style '{name}' is unknown; did you mean: .*{says}"):
        apply([name], "boat")


def test_far_off_names_get_all() -> None:
    with pytest.raises(SettingError, match=r"one of: photograph, .*hokusai"):
        apply(["qqqqq"], "boat")
