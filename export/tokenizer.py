"""CLIP's tokenizer: its files for every reader."""

import gzip
import hashlib
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

from pleinair.runtime.errors import SourceError
from pleinair.runtime.text.vocabulary import read_merges

from . import openvino_tokenizer
from .manifest import write_json

_FILES = (
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)

CLIP_TOKENS = 49408
END = "<|endoftext|>"

# OpenAI's list of merges as the package openai-clip brings it, and the part of it that CLIP uses.
_BPE_PACKAGE = "clip"
_BPE_FILE = "bpe_simple_vocab_16e6.txt.gz"
_BPE_SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
_CLIP_MERGES = slice(1, CLIP_TOKENS - 2 * 256 - 2 + 1)


def copy(source: Path, target: Path) -> None:
    """Copy a tokenizer's files; take vocab.json and merges.txt out of tokenizer.json if need be."""
    target.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    if (target / "vocab.json").is_file() and (target / "merges.txt").is_file():
        return
    if not (target / "tokenizer.json").is_file():
        raise SourceError(f"{source} has neither vocab.json and merges.txt nor tokenizer.json")
    vocab, merges = read_merges(target, error=SourceError)
    write_bpe(target, vocab, [" ".join(pair) for pair in merges])


def write_bpe(target: Path, vocab: dict[str, int], merges: list[str]) -> None:
    """Write vocab.json in the order of the ids, and merges.txt in the order of the merges."""
    ordered = dict(sorted(vocab.items(), key=lambda item: item[1]))
    text = json.dumps(ordered, ensure_ascii=False)
    (target / "vocab.json").write_text(text, encoding="utf-8", newline="\n")
    lines = ["#version: 0.2", *merges]
    (target / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def require_clip(config: dict[str, Any], origin: str) -> None:
    """Raise `SourceError` when a text encoder's config has another vocabulary than CLIP's."""
    rows = config.get("vocab_size", CLIP_TOKENS)
    if rows != CLIP_TOKENS:
        raise SourceError(
            f"{origin} has an embedding for {rows} tokens, and CLIP's vocabulary has "
            f"{CLIP_TOKENS}; export a diffusers folder, which brings its tokenizer"
        )


def write_clip(target: Path, pad_token: str = END) -> None:
    """Write the tokenizer of Stable Diffusion from OpenAI's merges, without the network.

    The order of the ids is CLIP's: 256 bytes, the same at the end of a word, the merges, start,
    end. `pad_token` fills a prompt up: "!" for OpenCLIP's text encoders. Raises `SourceError` when
    the package openai-clip is not installed or was altered.
    """
    merges = _clip_merges()
    alphabet = _byte_alphabet()
    tokens = alphabet + [letter + "</w>" for letter in alphabet]
    tokens += [merge.replace(" ", "") for merge in merges]
    tokens += ["<|startoftext|>", END]
    target.mkdir(parents=True, exist_ok=True)
    write_bpe(target, {token: i for i, token in enumerate(tokens)}, merges)
    if pad_token != END:
        special = {"bos_token": "<|startoftext|>", "eos_token": END, "unk_token": END}
        special["pad_token"] = pad_token
        write_json(target / "special_tokens_map.json", special)
        config = special | {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
        write_json(target / "tokenizer_config.json", config)


def _clip_merges() -> list[str]:
    # The package is only located: importing it would want torchvision.
    spec = importlib.util.find_spec(_BPE_PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    files = [Path(folder, _BPE_FILE) for folder in folders or ()]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise SourceError(
            "a single-file checkpoint needs CLIP's vocabulary, which the package openai-clip "
            "holds: pip install openai-clip (the export extra brings it)"
        )
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != _BPE_SHA256:
        raise SourceError(f"{file} is not OpenAI's; reinstall it: pip install openai-clip==1.0.1")
    return gzip.decompress(content).decode("utf-8").split("\n")[_CLIP_MERGES]


def _byte_alphabet() -> list[str]:
    """Return printable stand-ins for the 256 bytes, GPT-2's, in the order of CLIP's ids."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = 256 - len(printable)
    return [chr(code) for code in printable] + [chr(256 + i) for i in range(hidden)]


def complete(folder: Path, openvino: bool) -> None:
    """Add what the source did not bring: tokenizer.json, the small configs, and, for `openvino`,
    the converted `openvino_tokenizer.xml` and `openvino_detokenizer.xml`.
    """
    tokenizer = _load(folder)
    special = {key: str(value) for key, value in tokenizer.special_tokens_map.items()}
    if not (folder / "tokenizer.json").is_file():
        tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    if not (folder / "special_tokens_map.json").is_file():
        write_json(folder / "special_tokens_map.json", special)
    if not (folder / "tokenizer_config.json").is_file():
        config = special | {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
        write_json(folder / "tokenizer_config.json", config)
    if openvino:
        openvino_tokenizer.write(tokenizer, folder)


def _load(folder: Path) -> Any:
    from transformers import CLIPTokenizerFast

    return CLIPTokenizerFast.from_pretrained(folder)
