"""Damaged tokenizers and any prompt at all: a PleinairError of one line, or what it says; no hang.

Seeded, so that every run tries the same; `PLEINAIR_FUZZ=100` tries a hundred times as many.
"""

import json
import logging
import os
import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from checkpoints import bpe_tokenizer
from pleinair.runtime.errors import PleinairError
from pleinair.runtime.text.chunks import chunks_of
from pleinair.runtime.text.networks import loras_named
from pleinair.runtime.text.prompt import joined
from pleinair.runtime.text.t5 import T5Tokenizer
from pleinair.runtime.text.tokenizer import ClipTokenizer
from pleinair.runtime.text.wildcards import drawn

TIMES = int(os.environ.get("PLEINAIR_FUZZ", "1"))
PIECES = [
    *"()[]{}:|<>\\,_ ",
    *(
        "a",
        "apple",
        "boat",
        " AND ",
        " BREAK ",
        "__x__",
        "__y/z__",
        "$$",
        "::",
        "2$$",
        ":0.5]",
        ":7)",
    ),
    *(":1e9", ":-.5", "<lora:a:1>", "<lyco:", "<hypernet:x:1>", "\0", "\n", "\u00a0", "🍎", "苹果"),
    *("\ud83d", "\udfff"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer in all of its files."""
    from transformers import CLIPTokenizer

    target = tmp_path_factory.mktemp("tokenizer")
    bpe_tokenizer(target)
    tokenizer = CLIPTokenizer.from_pretrained(target)
    tokenizer.add_tokens(["<my-word>"])
    tokenizer.save_pretrained(target)
    (target / "added_tokens.json").write_text(json.dumps({"<my-word>": len(tokenizer) - 1}))
    return target


def said(action: Callable[[], Any]) -> Any:
    """What it gives; None where it is refused, which it has to be in one line."""
    try:
        return action()
    except PleinairError as error:
        line = str(error)
        assert 0 < len(line) <= 2000
        assert "\n" not in line
        return None


def test_any_prompt(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "pleinair")
    (tmp_path / "x.txt").write_text("red\n{blue|__x__}\n", encoding="utf-8")
    tokenizer, draw = ClipTokenizer(folder), random.Random(1)
    read = 0
    for seed in range(400 * TIMES):
        written = "".join(draw.choices(PIECES, k=draw.randrange(1, 60)))
        said(partial(loras_named, written))
        (text,) = said(partial(drawn, [written], tmp_path, seed)) or [written]
        steps, syntax = draw.choice([1, 4, 50]), draw.choice(["webui", "plain"])
        found = said(partial(joined, partial(chunks_of, tokenizer), text, steps, syntax))
        for part in found.parts if found else ():
            read += 1
            for chunks in part.texts:
                for chunk in chunks:
                    assert chunk.ids.shape == (1, 77)
                    assert abs(chunk.weights).max() <= 1000
    assert read > 100 * TIMES


@pytest.mark.parametrize(
    "prompt",
    ["(", "[", "{", "(a", "[a|", "[a:", "<a:", "__a/", " : ", "BREAK ", "(]", "9", "\\", " "],
)
def test_a_prompt_of_one_thing_many_times(prompt: str, folder: Path, tmp_path: Path) -> None:
    """Nesting 40,000 deep and more; what is quadratic or deeper would show as minutes."""
    tokenizer, text = ClipTokenizer(folder), prompt * (39_000 // len(prompt))
    said(lambda: drawn([text], tmp_path, 1))
    said(partial(joined, partial(chunks_of, tokenizer), text, 4))


def test_wildcards_that_call_each_other_tenfold(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number}.txt").write_text(f"__{number + 1}__ " * 10, encoding="utf-8")
    (tmp_path / "10.txt").write_text("a", encoding="utf-8")
    with pytest.raises(PleinairError, match="draw more than 10,000 times"):
        drawn(["__0__"], tmp_path, 1)


VALUES = [None, True, 0, -1, 5, 10**400, 1e30, "", "a\ud800", "x" * 5000, [], [[]], {}, {"a": [1]}]


def fields(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where each value of a JSON stands; of long lists and objects the ends."""
    if path:
        yield path
    keys = list(content) if isinstance(content, dict) else range(len(content))
    for key in dict.fromkeys([*keys[:2], *keys[-2:]]) if len(keys) > 40 else keys:
        if isinstance(content[key], dict | list):
            yield from fields(content[key], (*path, key))
        else:
            yield (*path, key)


def damages(file: Path, draw: random.Random) -> Iterator[bytes]:
    whole = file.read_bytes()
    yield from (
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff" + whole,
        b"[" * 100_000,
        whole[: len(whole) // 2],
    )
    if file.suffix != ".json":
        yield from (b"#version: 0.2\n", b"a b\n" * 3, b"a\n", whole.replace(b" ", b"  ", 1))
        return
    content = json.loads(whole)
    for path in fields(content):
        for value in draw.sample(VALUES, min(len(VALUES), 3 * TIMES)):
            changed = json.loads(whole)
            inner = changed
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = value
            yield json.dumps(changed).encode()


def read_clip(folder: Path) -> Any:
    return ClipTokenizer.fitting(folder, {"vocab_size": 700}, folder / "config.json")("a <my-word>")


@pytest.mark.parametrize(
    "name",
    [
        "vocab.json",
        "merges.txt",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
    ],
)
def test_damaged_files_of_clip_s_tokenizer(name: str, folder: Path, tmp_path: Path) -> None:
    copy, draw = tmp_path / "copy", random.Random(name)
    shutil.copytree(folder, copy)
    if name == "tokenizer.json":  # else the two other files are read in its place
        (copy / "vocab.json").unlink()
    right = read_clip(copy).ids.tolist()
    refused = 0
    for content in damages(folder / name, draw):
        (copy / name).write_bytes(content)
        found = said(lambda: read_clip(copy))
        refused += found is None
        assert found is None or found.ids.shape == (1, 77)
    assert refused > 5
    (copy / name).unlink()
    (copy / name).mkdir()
    assert said(lambda: read_clip(copy)) is None or name == "tokenizer.json"
    (copy / name).rmdir()
    shutil.copyfile(folder / name, copy / name)
    assert read_clip(copy).ids.tolist() == right


def test_damaged_files_of_t5_s_tokenizer(tmp_path: Path) -> None:
    from checkpoints_sd3 import unigram_tokenizer

    unigram_tokenizer(tmp_path)
    file, draw = tmp_path / "tokenizer.json", random.Random(2)
    for content in list(damages(file, draw))[:: max(1, 4 // TIMES)]:
        file.write_bytes(content)
        said(lambda: T5Tokenizer.fitting(tmp_path, {}, tmp_path / "config.json").pieces("a boat"))
