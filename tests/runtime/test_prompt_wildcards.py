"""Wildcards and choices: the seed's own draw, and clear words for files that are not there."""

from collections import Counter
from pathlib import Path

import pytest

from pleinair.runtime.errors import PromptError
from pleinair.runtime.text.wildcards import drawn


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {
        "colour.txt": "# colours\n\nred\r\n  green  \nblue\n",
        "hair_colour.txt": "\ufeffginger\n",
        "places/sea.txt": "a __colour__ boat on __places/water__\n",
        "places/water.txt": "the {calm|wild} sea\n",
        "itself.txt": "more __itself__\n",
        "empty.txt": "\n# nothing\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.encode())
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    return tmp_path


def counted(text: str, folder: Path, seeds: int = 600) -> Counter[str]:
    return Counter(drawn([text], folder, seed)[0] for seed in range(seeds))


def test_a_line_is_drawn(folder: Path) -> None:
    found = counted("a __colour__ apple", folder)
    assert set(found) == {"a red apple", "a green apple", "a blue apple"}
    assert min(found.values()) > 130  # 200 expected


def test_the_same_seed_draws_the_same(folder: Path) -> None:
    text = "{a|b|c|d|e|f|g|h} __colour__ __colour__ {1|2|3|4|5|6|7|8}"
    assert drawn([text], folder, 7) == drawn([text], folder, 7)
    assert len({drawn([text], folder, seed)[0] for seed in range(40)}) > 30
    # Written down once: what a seed draws is part of a picture's recipe, for good.
    assert drawn([text], folder, 7) == ["f blue blue 3"]
    both = [[drawn([text], folder, sign * seed) for seed in range(1, 9)] for sign in (1, -1)]
    assert both[0] != both[1]


def test_texts_of_one_picture_draw_on(folder: Path) -> None:
    pairs = {tuple(drawn(["{a|b}", "{a|b}"], folder, seed)) for seed in range(40)}
    assert len(pairs) == 4
    assert drawn(["boat", "{a|b}"], folder, 3)[1] == drawn(["{a|b}"], folder, 3)[0]


@pytest.mark.parametrize(
    ("text", "outcomes"),
    [
        ("plain text, (a:1.2) [b|c] <d>", {"plain text, (a:1.2) [b|c] <d>"}),
        ("{a|b}", {"a", "b"}),
        ("{a}", {"a"}),
        ("{}", {""}),
        ("{a|}x", {"ax", "x"}),
        ("{a|{b|c}}", {"a", "b", "c"}),
        ("{a b|c}{d|e}", {"a bd", "a be", "cd", "ce"}),
        ("{__colour__|pink}", {"red", "green", "blue", "pink"}),
        ("__hair_colour__ hair", {"ginger hair"}),
        ("__places/sea__", {
            f"a {colour} boat on the {mood} sea"
            for colour in ("red", "green", "blue")
            for mood in ("calm", "wild")
        }),
        # Several of the options.
        ("{2$$a|b|c}", {"a, b", "b, a", "a, c", "c, a", "b, c", "c, b"}),
        ("{2$$ and $$a|b}", {"a and b", "b and a"}),
        ("{1-2$$a|b}", {"a", "b", "a, b", "b, a"}),
        ("{-1$$a|b}", {"a", "b"}),
        ("{2-$$a|b}", {"a, b", "b, a"}),
        ("{9$$a|b}", {"a, b", "b, a"}),
        ("{0$$a|b}", {""}),
        ("{3$$+$$__colour__}", {
            "red+green+blue", "red+blue+green", "green+red+blue",
            "green+blue+red", "blue+red+green", "blue+green+red",
        }),
        # Weights of nothing.
        ("{0::a|b}", {"b"}),
        ("{0::a|0::b}", {"a", "b"}),
        # Braces without a partner, and underscores that name nothing.
        ("{a|b", {"{a|b"}),
        ("a|b}", {"a|b}"}),
        ("{a|{b}", {"{a|b"}),
        ("snake_case and __ and ____", {"snake_case and __ and ____"}),
    ],
)  # fmt: skip
def test_what_can_come_out(folder: Path, text: str, outcomes: set[str]) -> None:
    assert set(counted(text, folder, 200)) == outcomes


def test_weights(folder: Path) -> None:
    found = counted("{0.5::a|2::b|c}", folder, 1400)
    assert found["a"] == pytest.approx(200, abs=60)
    assert found["b"] == pytest.approx(800, abs=90)
    assert found["c"] == pytest.approx(400, abs=80)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("__nowhere__", "nowhere.txt: cannot be read.*__nowhere__"),
        ("__places__", "places.txt: cannot be read"),
        ("__empty__", "empty.txt: no line in it"),
        ("__latin__", "latin.txt: not UTF-8 at byte 4"),
        ("__itself__", "nested deeper than 16: __itself__ in __itself__"),
        ("__../colour__", "stay inside their folder"),
        ("__places/../../colour__", "stay inside their folder"),
        ("{__nowhere__}", "nowhere.txt"),
        ("{" * 40 + "a" + "}" * 40, "nested deeper"),
    ],
)
def test_what_cannot_be_drawn(folder: Path, text: str, says: str) -> None:
    with pytest.raises(PromptError, match=says):
        drawn([text], folder, 1)


def test_choices_need_no_folder(tmp_path: Path) -> None:
    assert drawn(["{a|a}"], tmp_path / "nowhere", 1) == ["a"]
