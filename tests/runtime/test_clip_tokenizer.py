"""Ids are those of transformers' CLIPTokenizer; what does not fit is named."""

import functools
import json
import random
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from checkpoints import bpe_tokenizer
from pleinair.runtime.errors import BundleError
from pleinair.runtime.text.tokenizer import ClipTokenizer

CORPUS = [
    "",
    " ",
    "a red apple",
    "A Red   APPLE\n\ton the  house",
    "don't can't we're I'll you'd they've 'tis",
    "1234 5.67 8th ½ ² Ⅷ",
    "蓝色背景上的火箭",
    "東京タワー、夜景。高画質！",
    "한국어 고양이",
    "café naïve Ångström ﬁne",
    unicodedata.normalize("NFD", "café naïve Ångström"),
    "🍎🚀 👩‍🚀 👨‍👩‍👧‍👦 🏳️‍🌈 ❤️",
    "İstanbul ẞ ΑΣ ς DŽ",
    "tab\tnull\0bell\x07esc\x1b del\x7f nbsp\u00a0 zwsp\u200b bom\ufeff",
    "a\r\nb\u2028c\u2029d\u0085e",
    "(masterpiece:1.2), [bad|good], {x}, <lora:foo:0.8> #tag @me $5 100%",
    "<|startoftext|> inside <|endoftext|>",
    "<|ENDOFTEXT|>",
    "...!!!???---___***",
    "مرحبا שלום नमस्ते ไทย",
    "e\u0301\u0327 \U0001d518\U0001d52b",
    "supercalifragilisticexpialidocious " * 3,
]


@pytest.fixture(scope="module", params=["tiny", "clip"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small vocabulary, and CLIP's own of 49,408 tokens."""
    target = tmp_path_factory.mktemp("tokenizer")
    if request.param == "tiny":
        bpe_tokenizer(target)
    else:
        from pleinair.export.tokenizer import write_clip

        write_clip(target)
    return target


@functools.cache
def reference_tokenizer(folder: Path) -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder)


def reference(folder: Path, text: str) -> list[int]:
    tokenizer = reference_tokenizer(folder)
    ids = tokenizer(text, padding="max_length", max_length=77, truncation=True).input_ids
    return list(ids)


def fresh_reference(folder: Path, text: str) -> list[int]:
    """Of a folder whose files change in a test."""
    from transformers import CLIPTokenizer

    options: dict[str, Any] = {"padding": "max_length", "max_length": 77, "truncation": True}
    return list(CLIPTokenizer.from_pretrained(folder)(text, **options).input_ids)


def random_texts(count: int, length: int) -> list[str]:
    """Text from all of Unicode's planes that carry letters, without lone surrogates."""
    generator = random.Random(0)
    ranges = [(0, 0x250), (0x370, 0x600), (0x3040, 0x30FF), (0x4E00, 0x9FFF), (0x1F300, 0x1FAFF)]
    return [
        "".join(chr(generator.randrange(*generator.choice(ranges))) for _ in range(length))
        for _ in range(count)
    ]


def test_ids_equal_transformers(folder: Path) -> None:
    tokenizer = ClipTokenizer(folder)
    for text in [*CORPUS, *random_texts(40, 30)]:
        assert tokenizer(text).ids.tolist() == [reference(folder, text)], repr(text)


@pytest.mark.parametrize("text", ["a red apple on a boat " * 500, "苹果🍎" * 3000, "x" * 10_000])
def test_very_long_prompts(folder: Path, text: str) -> None:
    tokens = ClipTokenizer(folder)(text)
    assert tokens.ids.tolist() == [reference(folder, text)]
    assert tokens.count > 77
    assert tokens.dropped


def test_a_whole_tokenizer_json_serves_as_well(folder: Path, tmp_path: Path) -> None:
    from transformers import CLIPTokenizer

    CLIPTokenizer.from_pretrained(folder).backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    tokenizer = ClipTokenizer(tmp_path)
    for text in CORPUS:
        assert tokenizer(text).ids.tolist() == [reference(folder, text)], repr(text)


def test_dropped_words_are_named(tmp_path: Path) -> None:
    bpe_tokenizer(tmp_path)
    tokenizer = ClipTokenizer(tmp_path)
    fits = " ".join(["apple"] * 75)
    assert tokenizer(fits).dropped == ""
    assert tokenizer(f"{fits} boat on Mountain").dropped == "boat on Mountain"
    # "xyz" is three tokens here, of which one fits: the whole word counts as lost.
    assert tokenizer(" ".join(["apple"] * 74) + " xyz boat").dropped == "xyz boat"


def rewritten(file: Path, **changes: Any) -> None:
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(content | changes))


def test_pad_token_comes_from_the_files(tmp_path: Path) -> None:
    """The older file counts where the newer one lists no added tokens: so it is in SD 2.1."""
    bpe_tokenizer(tmp_path)
    rewritten(tmp_path / "special_tokens_map.json", pad_token={"content": "!"})
    for text in ("apple", "a red apple!", "wow!!! house"):
        ids = ClipTokenizer(tmp_path)(text).ids
        assert ids[0, -1] == 0  # "!" is the first token of every CLIP vocabulary
        # The token that pads is one in the text too.
        assert ids.tolist() == [fresh_reference(tmp_path, text)]


@pytest.mark.parametrize("length", [5, 2, 0, -1, 78, 76.5])
def test_another_length_than_the_text_encoder_s_is_refused(tmp_path: Path, length: float) -> None:
    bpe_tokenizer(tmp_path)
    rewritten(tmp_path / "tokenizer_config.json", model_max_length=length)
    with pytest.raises(BundleError, match=rf"model_max_length is {length}, .* write 77 there"):
        ClipTokenizer(tmp_path)


def test_the_length_is_that_of_the_text_encoder(tmp_path: Path) -> None:
    bpe_tokenizer(tmp_path)
    rewritten(tmp_path / "tokenizer_config.json", model_max_length=9)
    assert ClipTokenizer(tmp_path, positions=9)("apple").ids.shape == (1, 9)


def test_no_upper_length_means_clip_s_own(tmp_path: Path) -> None:
    bpe_tokenizer(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    settings["model_max_length"] = 10**30
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert ClipTokenizer(tmp_path).max_length == 77


@pytest.mark.parametrize("damage", ["missing", "empty vocabulary", "not JSON", "foreign"])
def test_bad_folders_are_named(tmp_path: Path, damage: str) -> None:
    bpe_tokenizer(tmp_path)
    if damage == "missing":
        (tmp_path / "merges.txt").unlink()
    elif damage == "empty vocabulary":
        (tmp_path / "vocab.json").write_text("")
    elif damage == "not JSON":
        (tmp_path / "tokenizer_config.json").write_text("{")
    else:
        (tmp_path / "vocab.json").write_text('{"a": 0}')
        (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(BundleError, match=tmp_path.name):
        ClipTokenizer(tmp_path)
