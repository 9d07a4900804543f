"""T5's tokenizer: its files for every reader."""

import shutil
from pathlib import Path

from pleinair.runtime.errors import SourceError

from . import openvino_tokenizer

_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "spiece.model",
)


def copy(source: Path, target: Path) -> None:
    """Copy a tokenizer's files; raises `SourceError` where tokenizer.json is not among them."""
    if not (source / "tokenizer.json").is_file():
        raise SourceError(
            f"{source} has no tokenizer.json; save it with transformers' T5TokenizerFast, which "
            "makes one of spiece.model"
        )
    target.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def complete(folder: Path, openvino: bool) -> None:
    """Add, for `openvino`, the converted `openvino_tokenizer.xml` and its detokenizer."""
    if openvino:
        from transformers import T5TokenizerFast

        openvino_tokenizer.write(T5TokenizerFast.from_pretrained(folder), folder)
