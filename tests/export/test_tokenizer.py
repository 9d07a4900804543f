"""The tokenizer's files, from a folder or from OpenAI's merges, give transformers' ids."""

import builtins
import importlib.util
import json
from pathlib import Path

import pytest

from checkpoints import bpe_tokenizer
from pleinair.export import tokenizer
from pleinair.runtime.errors import SourceError

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
