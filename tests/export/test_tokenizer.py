"""The tokenizer's files, from a folder or from OpenAI's merges, give transformers' ids."""

import builtins
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from checkpoints import bpe_tokenizer
from pleinair.export import export_model, tokenizer
from pleinair.runtime.errors import SourceError
from pleinair.runtime.text.tokenizer import ClipTokenizer

_PROMPTS = [
    "a photo of a cat",
    "A RED apple,  (masterpiece:1.3)!!",
    "it's 1234 years' worth",
    "naïve café — 東京 🍎",
    "",
]


def test_clip_is_made_without_the_network(tmp_path: Path) -> None:
    from transformers import CLIPTokenizer

    tokenizer.write_clip(tmp_path)
    vocabulary = json.loads((tmp_path / "vocab.json").read_text(encoding="utf-8"))
    assert len(vocabulary) == 49408
    assert list(vocabulary.values()) == list(range(49408))
    # Ids that are published with CLIP: bytes, word ends, first merges, words, specials.
    published = {"!": 0, "!</w>": 256, "in": 512, "a</w>": 320, "the</w>": 518, "photo</w>": 1125}
    published |= {"<|startoftext|>": 49406, "<|endoftext|>": 49407}
    assert {token: vocabulary[token] for token in published} == published
    merges = (tmp_path / "merges.txt").read_text(encoding="utf-8").splitlines()
    assert merges[:3] == ["#version: 0.2", "i n", "t h"]
    assert len(merges) == 48895, "as in the published merges.txt"
    ids = CLIPTokenizer.from_pretrained(tmp_path)("a photo of a cat")["input_ids"]
    assert ids == [49406, 320, 1125, 539, 320, 2368, 49407]


def test_clip_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SourceError, match="pip install openai-clip"):
        tokenizer.write_clip(tmp_path)


def test_clip_is_located_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, imported = builtins.__import__, set()

    def importing(name: str, *arguments: object, **options: object) -> object:
        imported.add(name.split(".")[0])
        return real(name, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", importing)
    tokenizer.write_clip(tmp_path)
    assert "clip" not in imported
    assert (tmp_path / "merges.txt").is_file()


@pytest.mark.parametrize("kept", [{"vocab.json", "merges.txt"}, {"tokenizer.json"}])
def test_every_file_is_completed(tmp_path: Path, kept: set[str]) -> None:
    """Old folders lack tokenizer.json; transformers 5 writes it alone."""
    from transformers import CLIPTokenizer

    source, target = tmp_path / "source", tmp_path / "target"
    bpe_tokenizer(source)
    expected = CLIPTokenizer.from_pretrained(source)
    original = {name: (source / name).read_text(encoding="utf-8") for name in _BPE}
    if "tokenizer.json" in kept:
        expected.backend_tokenizer.save(str(source / "tokenizer.json"))
    for name in _BPE | {"special_tokens_map.json", "tokenizer_config.json"}:
        if name not in kept:
            (source / name).unlink()
    tokenizer.copy(source, target)
    tokenizer.complete(target, openvino=True)
    assert {path.name for path in target.iterdir()} == {
        *_BPE,
        *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
        *("openvino_tokenizer.xml", "openvino_tokenizer.bin"),
        *("openvino_detokenizer.xml", "openvino_detokenizer.bin"),
    }
    assert json.loads((target / "vocab.json").read_text(encoding="utf-8")) == json.loads(
        original["vocab.json"]
    )
    assert (target / "merges.txt").read_text(encoding="utf-8") == original["merges.txt"]
    found = CLIPTokenizer.from_pretrained(target)
    for prompt in _PROMPTS:
        assert found(prompt)["input_ids"] == expected(prompt)["input_ids"]
    assert found.model_max_length == 77


_BPE = {"vocab.json", "merges.txt"}


def test_the_openvino_tokenizer_gives_the_same_ids(tmp_path: Path) -> None:
    import openvino
    import openvino_tokenizers  # noqa: F401 (registers its operations)
    from transformers import CLIPTokenizer

    bpe_tokenizer(tmp_path)
    tokenizer.complete(tmp_path, openvino=True)
    encode = openvino.compile_model(tmp_path / "openvino_tokenizer.xml", "CPU")
    expected = CLIPTokenizer.from_pretrained(tmp_path)
    for prompt in _PROMPTS:
        ids = encode([prompt])["input_ids"][0].tolist()
        assert ids == expected(prompt)["input_ids"], prompt


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="neither vocab"):
        tokenizer.copy(tmp_path / "tokenizer", tmp_path / "target")


def added(folder: Path, pad_token: str, words: list[Any]) -> Path:
    """A tokenizer with words added to it, as transformers saves it."""
    from transformers import CLIPTokenizer

    bpe_tokenizer(folder / "plain")
    special = folder / "plain" / "special_tokens_map.json"
    special.write_text(json.dumps(json.loads(special.read_text()) | {"pad_token": pad_token}))
    known = CLIPTokenizer.from_pretrained(folder / "plain")
    known.add_tokens(words)
    known.save_pretrained(folder / "saved")
    tokenizer.copy(folder / "saved", folder / "copied")
    return folder / "copied"


def test_the_openvino_graph_knows_added_tokens(tmp_path: Path) -> None:
    """Of OpenCLIP "!" is one, because it pads."""
    import openvino
    import openvino_tokenizers  # noqa: F401 (its operations)
    from transformers import CLIPTokenizer

    folder = added(tmp_path, "!", ["zork"])
    tokenizer.complete(folder, openvino=True)
    graph = openvino.Core().compile_model(folder / "openvino_tokenizer.xml", "CPU")
    theirs, ours = CLIPTokenizer.from_pretrained(tmp_path / "saved"), ClipTokenizer(folder)
    for text in [*_PROMPTS, "wow!!! a cat!", "a zork, ZORK zorking", "un-zork <|endoftext|> a"]:
        right = theirs(text).input_ids
        assert next(iter(graph([text]).values()))[0, : len(right)].tolist() == right
        assert ours(text).ids[0, : len(right)].tolist() == right[:77]


def test_an_openvino_graph_that_would_read_other_words_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """openvino-tokenizers finds added tokens before it makes letters small."""
    folder = added(tmp_path, tokenizer.END, ["<my-word>"])
    tokenizer.complete(folder, openvino=True)
    assert not list(folder.glob("*.xml"))
    (record,) = caplog.records
    assert "because openvino-tokenizers reads 'a <my-word> on <MY-WORD>" in record.message
    assert ClipTokenizer(folder)("<MY-Word>").ids[0, :3].tolist() == [602, 604, 603]


def test_a_token_without_a_row_in_the_embedding_is_refused(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    from transformers import CLIPTokenizer

    checkpoint = shutil.copytree(tiny_checkpoint, tmp_path / "taught")
    known = CLIPTokenizer.from_pretrained(checkpoint / "tokenizer")
    known.add_tokens(["<my-word>"])
    known.save_pretrained(checkpoint / "tokenizer")
    with pytest.raises(SourceError, match=r"token '<my-word>' has the id 604, and .* has 604 rows"):
        export_model(checkpoint, tmp_path / "model", ["openvino"], "fp32")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("damage", ["merges", "vocab", "not JSON", "letters"])
def test_a_damaged_tokenizer_json_is_one_line(tmp_path: Path, damage: str) -> None:
    from transformers import CLIPTokenizer

    bpe_tokenizer(tmp_path / "plain")
    CLIPTokenizer.from_pretrained(tmp_path / "plain").save_pretrained(tmp_path / "saved")
    file = tmp_path / "saved" / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["model"]["merges"] = {"merges": [], "letters": "abc"}.get(
        damage, content["model"]["merges"]
    )
    if damage == "vocab":
        content["model"]["vocab"] = ["a"]
    file.write_text("{" if damage == "not JSON" else json.dumps(content), encoding="utf-8")
    with pytest.raises(SourceError, match=r"tokenizer\.json"):
        tokenizer.copy(tmp_path / "saved", tmp_path / "copied")
