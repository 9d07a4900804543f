"""What a model's vocabulary.json lists is known; other words of a prompt are named, once."""

import json
import logging
import os
import time
from pathlib import Path

import pytest

from pleinair.runtime.errors import BundleError
from pleinair.runtime.text.known_words import KnownWords

LISTED = {
    "names": {
        "things": {"red apple": ["apple", "红苹果", "苹果"], "castle": ["城堡"], "t-shirt": []},
        "backgrounds": {"blue background": ["蓝色背景"], "red background": []},
    },
    "forms": ["apples", "红色的苹果", "on blue"],
    "fillers": ["a", "an", "the", "on", "with", "and", "two", "一", "只", "的", "上"],
}


def written(folder: Path, content: object) -> Path:
    (folder / "vocabulary.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.fixture
def vocabulary(tmp_path: Path) -> KnownWords:
    found = KnownWords.of(written(tmp_path, LISTED))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("", []),
        ("a red apple", []),
        ("two APPLES and the castle's apple", []),
        ("a red castle", ["red"]),
        ("a castle, oil painting", ["oil painting"]),
        ("a castle, oil, painting, oil", ["oil", "painting"]),
        ("an ultra-detailed castle", ["ultra-detailed"]),
        ("a T-shirt, a t shirt", []),
        ("a castle on blue", []),
        ("a blue castle", ["blue"]),
        ("four apples", ["four"]),
        ("4 apples", ["4"]),
        ("a (castle:1.3), [apple], ((tree:0.5))", ["tree"]),
        ("a cas(tle:1.2)", []),
        ("an apple BREAK a tree", ["tree"]),
        (r"a castle \(tree\)", ["tree"]),
        ("a castle <lora:style:0.8>", []),
        ("一只红色的苹果", []),
        ("一只红色的城堡", ["红色"]),
        ("蓝色背景上的城堡", []),
        ("蓝色的城堡", ["蓝色"]),
        ("长城上的苹果和云", ["长城", "和云"]),
        ("a château", ["château"]),
    ],
)
def test_what_is_not_listed_is_unknown(
    vocabulary: KnownWords, text: str, unknown: list[str]
) -> None:
    assert vocabulary.unknown(text) == unknown


def test_plain_syntax_has_no_weights(vocabulary: KnownWords) -> None:
    assert vocabulary.unknown("(apple:1.3)", syntax="plain") == ["1", "3"]
    assert vocabulary.unknown("apple BREAK castle", syntax="plain") == ["break"]


def test_near_words_are_suggested(vocabulary: KnownWords) -> None:
    assert vocabulary.near("appel") == ["apple"]
    assert vocabulary.near("Blue") == ["blue background"]
    assert vocabulary.near("蓝色") == ["蓝色背景"]
    assert vocabulary.near("oil painting") == []


def test_words_are_named_in_one_line_and_once(
    vocabulary: KnownWords, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vocabulary.warn(["oil painting", "catle", "oil painting"])
    vocabulary.warn(["catle"])
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path.name} does not know: oil painting, catle (castle?); it knows 3 things and "
        f"2 backgrounds, listed by: pleinair models --words {tmp_path.name}"
    ]


def test_what_was_not_shown_was_not_said(
    vocabulary: KnownWords, caplog: pytest.LogCaptureFixture
) -> None:
    """The command line checks all calls with a silent logger, before it paints the first."""
    logger = logging.getLogger("pleinair")
    logger.disabled = True
    try:
        vocabulary.warn(["tree"])
    finally:
        logger.disabled = False
    vocabulary.warn(["tree"])
    assert len(caplog.records) == 1


def test_many_words_and_long_ones_are_cut(
    vocabulary: KnownWords, caplog: pytest.LogCaptureFixture
) -> None:
    vocabulary.warn([f"word{'x' * 10_000}{number}" for number in range(20)])
    [record] = caplog.records
    assert len(record.getMessage()) < 1500
    assert "and 12 more" in record.getMessage()


def test_a_long_text_takes_a_moment(vocabulary: KnownWords) -> None:
    start = time.perf_counter()
    assert vocabulary.unknown("长城苹果 oil castle, " * 5000) == ["长城", "oil"]
    assert time.perf_counter() - start < 5


def test_learnt_words_are_known(tmp_path: Path) -> None:
    learnt = KnownWords.of(written(tmp_path, LISTED), ["my-cat"])
    assert learnt is not None
    assert learnt.unknown("a my-cat, a cat") == ["cat"]


def test_a_model_without_a_list_says_nothing(tmp_path: Path) -> None:
    assert KnownWords.of(tmp_path) is None


@pytest.mark.parametrize(
    "content",
    [
        {"names": []},
        {"names": {"things": {"cat": "kitten"}}},
        {"names": {"things": {"cat": [1]}}},
        {"forms": ["cats"]},
        {"names": {}},
        {"names": {"things": {"cat": []}}, "fillers": {"a": 1}},
        {"names": {"things": {"cat " * 1000: []}}},
        [1],
    ],
)
def test_a_damaged_list_is_named(tmp_path: Path, content: object) -> None:
    with pytest.raises(BundleError, match=r"vocabulary\.json"):
        KnownWords.of(written(tmp_path, content))


def test_a_folder_in_its_place_is_named(tmp_path: Path) -> None:
    os.mkdir(tmp_path / "vocabulary.json")
    with pytest.raises(BundleError, match=r"vocabulary\.json"):
        KnownWords.of(tmp_path)
