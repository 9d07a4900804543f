"""Train the tokenizer: CLIP's byte-level BPE, learnt from the captions the model is trained on.

Writes `work/tokenizer/` with `vocab.json` and `merges.txt` in CLIP's own form: lower-cased text,
`</w>` at the end of each word, 256 bytes with and without it first, then one token for each merge,
then `<|startoftext|>` and `<|endoftext|>`, padded with the latter to 77.
"""

import json
from collections.abc import Iterator
from random import Random

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from . import WORK
from .captions import BACKGROUNDS, STYLES, SUBJECTS, caption

START, END = "<|startoftext|>", "<|endoftext|>"
MAX_LENGTH = 77
MERGES = 300


def corpus() -> Iterator[str]:
    random = Random(0)
    for subject in SUBJECTS:
        for style in (None, *STYLES):
            for background in (None, *BACKGROUNDS):
                yield caption(random, subject, style, background)


def byte_symbols() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes, in CLIP's order: printable bytes first."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + place) for place in range(len(rest))]


def learn_merges() -> list[str]:
    """Merges in the order learnt, each as "left right"."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=2 * 256 + MERGES,
        initial_alphabet=byte_symbols(),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bpe.train_from_iterator(corpus(), trainer)
    return [" ".join(merge) for merge in json.loads(bpe.to_str())["model"]["merges"]]


def main() -> None:
    folder = WORK / "tokenizer"
    folder.mkdir(exist_ok=True)
    merges = learn_merges()
    symbols = byte_symbols()
    tokens = symbols + [symbol + "</w>" for symbol in symbols]
    tokens += [merge.replace(" ", "") for merge in merges] + [START, END]
    if len(set(tokens)) != len(tokens):
        raise SystemExit("two merges make the same token")
    vocab = {token: place for place, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", "utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "CLIPTokenizer",
                "model_max_length": MAX_LENGTH,
                "do_lower_case": True,
                "add_prefix_space": False,
                "errors": "replace",
                "bos_token": START,
                "eos_token": END,
                "unk_token": END,
                "pad_token": END,
            },
            indent=2,
        ),
        "utf-8",
    )
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    print(f"{len(vocab)} tokens, {len(merges)} merges; a caption becomes:")
    print(tokenizer.tokenize("A red apple, twemoji style, on a light green background"))


if __name__ == "__main__":
    main()
