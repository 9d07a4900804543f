"""Words that were added to a tokenizer are one id each, wherever its files keep them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from checkpoints import bpe_tokenizer
from fakes import model_folder, opened
from pleinair.runtime.errors import BundleError
from pleinair.runtime.text.t5 import T5Tokenizer
from pleinair.runtime.text.tokenizer import ClipTokenizer

pytest.importorskip("transformers")

FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
# Content -> the flags that are not usual.
WORDS: dict[str, dict[str, bool]] = {
    "<my-word>": {},
    "zork": {},
    "Cap Word": {},
    "alone": {"single_word": True},
    "Exact": {"normalized": False},
    "<l>": {"lstrip": True, "rstrip": True},
    "<special>": {"special": True, "normalized": False},
}
PROMPTS = [
    "a <my-word> on a table",
    "<my-word>",
    "a<my-word>b <MY-WORD>, <My-Word>!",
    "zorking zork ZORK un-zork (zork:1.2)",
    "cap word, Cap  Word CAP WORD. cap wordy",
    "loner alone ALONE alone, standalone",
    "Exact exact EXACT inExactly",
    "a  <l>  b<l>c",
    "a<special>b <SPECIAL>",
    "蓝zork色<my-word>的",
    "<|startoftext|> <|ENDOFTEXT|> wow!!!",
]


def tokenizer_with_words(folder: Path) -> Any:
    from tokenizers import AddedToken
    from transformers import CLIPTokenizer

    bpe_tokenizer(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([AddedToken(word, **flags) for word, flags in WORDS.items()])
    return tokenizer


def rewritten(file: Path, **changes: Any) -> None:
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(content | changes))


def as_one_file(folder: Path) -> None:
    """As transformers saves it since version 5: everything in tokenizer.json."""
    tokenizer_with_words(folder).save_pretrained(folder)
    (folder / "vocab.json").unlink()
    (folder / "merges.txt").unlink()


def beside_vocabulary(folder: Path) -> None:
    """As our exporter and optimum write it: tokenizer.json beside the two old files."""
    tokenizer_with_words(folder).save_pretrained(folder)


def in_the_config(folder: Path) -> None:
    """As transformers saved it from 4.34 on: `added_tokens_decoder`."""
    added = tokenizer_with_words(folder).added_tokens_decoder
    entries = {
        str(number): {"content": token.content, **{flag: getattr(token, flag) for flag in FLAGS}}
        for number, token in added.items()
    }
    rewritten(folder / "tokenizer_config.json", added_tokens_decoder=entries)


def in_the_oldest_file(folder: Path) -> None:
    """added_tokens.json, which knows no flags."""
    added = tokenizer_with_words(folder).added_tokens_decoder
    words = {token.content: number for number, token in added.items() if token.content in WORDS}
    (folder / "added_tokens.json").write_text(json.dumps(words))


@pytest.mark.parametrize(
    "layout", [as_one_file, beside_vocabulary, in_the_config, in_the_oldest_file]
)
def test_ids_are_those_of_transformers(tmp_path: Path, layout: Callable[[Path], None]) -> None:
    from transformers import CLIPTokenizer

    layout(tmp_path)
    ours, theirs = ClipTokenizer(tmp_path), CLIPTokenizer.from_pretrained(tmp_path)
    assert max(theirs.get_vocab().values()) == 604 + len(WORDS) - 1
    for prompt in PROMPTS:
        right = theirs(prompt, add_special_tokens=False).input_ids
        assert [piece.id for piece in ours.pieces(prompt)] == right, prompt


def test_t5_s_extra_ids_and_added_words(tmp_path: Path) -> None:
    from transformers import T5TokenizerFast

    from checkpoints_sd3 import unigram_tokenizer

    size = unigram_tokenizer(tmp_path)
    word = {"content": "<my-word>", **dict.fromkeys(FLAGS, False), "normalized": True}
    theirs = T5TokenizerFast.from_pretrained(tmp_path)
    theirs.add_tokens(["<my-word>"])
    rewritten(tmp_path / "tokenizer_config.json", added_tokens_decoder={str(size): word})
    ours = T5Tokenizer(tmp_path)
    for prompt in ("a <extra_id_0> apple", "a <my-word> on<my-word>a boat", "<extra_id_1>"):
        right = theirs(prompt, add_special_tokens=False).input_ids
        assert [piece.id for piece in ours.pieces(prompt)] == right
    with pytest.raises(BundleError, match=rf"'<my-word>' has the id {size}, .* has {size} rows"):
        T5Tokenizer(tmp_path, rows=size)


def test_an_id_that_is_not_next_is_refused(tmp_path: Path) -> None:
    bpe_tokenizer(tmp_path)
    (tmp_path / "added_tokens.json").write_text('{"<my-word>": 700}')
    with pytest.raises(BundleError, match="'<my-word>' the id 700, and 604 is next"):
        ClipTokenizer(tmp_path)


def test_tokens_beyond_the_embedding_are_refused_on_opening(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "tree")
    opened(folder)
    vocabulary = json.loads((folder / "tokenizer" / "vocab.json").read_text(encoding="utf-8"))
    size = 1 + max(vocabulary.values())
    rewritten(folder / "text_encoder" / "config.json", vocab_size=size)
    opened(folder)
    rewritten(folder / "text_encoder" / "config.json", vocab_size=size - 1)
    with pytest.raises(BundleError, match=rf"has {size - 1} rows: the tokenizer is of another"):
        opened(folder)
    rewritten(folder / "text_encoder" / "config.json", vocab_size="many")
    with pytest.raises(BundleError, match=r"Expected `?int`?, got `?str`? at vocab_size"):
        opened(folder)


def test_merges_of_another_vocabulary_are_refused(tmp_path: Path) -> None:
    bpe_tokenizer(tmp_path / "whole")
    merges = (tmp_path / "whole" / "merges.txt").read_text(encoding="utf-8")
    for text, message in [
        ("#version: 0.2\n", "holds no merges"),
        (merges[: len(merges) // 2].rpartition("\n")[0], "its end is missing"),
        (merges + "qqq zzz\n", "'qqq' and 'zzz', which the vocabulary does not know"),
        (merges + "q\n", "'q' is no merge of two"),
    ]:
        folder = tmp_path / "damaged"
        shutil.copytree(tmp_path / "whole", folder)
        (folder / "merges.txt").write_text(text, encoding="utf-8")
        with pytest.raises(BundleError, match=message):
            ClipTokenizer(folder)
        shutil.rmtree(folder)
