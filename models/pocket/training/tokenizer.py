"""Train the tokenizer: CLIP's byte-level BPE, learnt from the captions the model is trained on.

Writes `work/tokenizer/` with `vocab.json` and `merges.txt` in CLIP's own form: lower-cased text,
`</w>` at the end of each word, 256 bytes with and without it first, then one token for each merge,
then `<|startoftext|>` and `<|endoftext|>`, padded with the latter to 77.
"""

import json
import re
from collections.abc import Iterator
from random import Random

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from . import WORK
from .captions import CHINESE_NUMBERS, MEASURES, in_chinese, in_english
from .scenes import Scene, draw_scene
from .vocabulary import BACKGROUNDS, STYLES, SUBJECTS

START, END = "<|startoftext|>", "<|endoftext|>"
MAX_LENGTH = 77
MERGES = 2600
#: CLIP's words, without its special tokens and English contractions.
WORD = re.compile(r"[^\W\d_]+|\d|[^\s\w]+")
_PHRASES = ["背景上的", "背景", "风格", "和", *CHINESE_NUMBERS.values(), *MEASURES]
_NAMES = [name for facts in SUBJECTS.values() for name in facts["zh"]]
_COLOURS = [facts["zh"] for facts in BACKGROUNDS.values()]
CHINESE = re.compile(
    "|".join(sorted({*_PHRASES, *_NAMES, *_COLOURS}, key=len, reverse=True)) + "|[a-z]+|."
)


def corpus() -> Iterator[str]:
    """Every name several times, alone and in captions of every kind."""
    random = Random(0)
    for thing in SUBJECTS:
        for style in STYLES:
            scene = Scene((thing,), style, random.choice(list(BACKGROUNDS)))
            for say in (in_english, in_chinese):
                for style_said in (False, True):
                    for background_said in (False, True):
                        yield say(random, scene, style=style_said, background=background_said)
    for kind in ("pair", "count"):
        for _ in range(4 * len(SUBJECTS)):
            scene = draw_scene(random, kind)
            yield in_english(random, scene, style=False, background=True)
            yield in_chinese(random, scene, style=False, background=True)


def clip_byte_order() -> list[int]:
    """The 256 bytes as GPT-2 and CLIP order them: printable ones first."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return printable + [byte for byte in range(256) if byte not in printable]


def byte_symbols() -> list[str]:
    """GPT-2's printable stand-ins for the bytes, in that order."""
    printable = [chr(byte) for byte in clip_byte_order()[:188]]
    return printable + [chr(256 + place) for place in range(256 - len(printable))]


def words_of(text: str) -> Iterator[list[str]]:
    """The words of a caption, each in the parts that merges may join.

    CLIP takes a run of letters for one word, so a whole Chinese phrase is one. Its parts are the
    names and phrases it is made of; without that, merges would reach across them and a name would
    have another token in every context.
    """
    for word in WORD.findall(text.lower()):
        yield CHINESE.findall(word) if word[0] >= "\u3000" else [word]


def learn_merges() -> list[str]:
    """Merges in the order learnt, each as "left right"."""
    symbols = byte_symbols()
    # Inside the trainer one character stands for a byte, and another for it at the end of a word.
    last = {symbol: chr(0xE000 + place) for place, symbol in enumerate(symbols)}
    by_byte = dict(zip(clip_byte_order(), symbols, strict=True))

    def lines() -> Iterator[str]:
        for text in corpus():
            for parts in words_of(text):
                coded = ["".join(by_byte[byte] for byte in part.encode()) for part in parts]
                coded[-1] = coded[-1][:-1] + last[coded[-1][-1]]
                yield " ".join(coded)

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    alphabet = [*symbols, *last.values()]
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + MERGES, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(lines(), trainer)
    ends = str.maketrans({mark: f"{symbol}</w>" for symbol, mark in last.items()})
    return [
        " ".join(merge).translate(ends) for merge in json.loads(bpe.to_str())["model"]["merges"]
    ]


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
    for words in (
        "A red apple, twemoji style, on a light green background",
        "浅绿色背景上的红苹果和火箭，twemoji风格",
    ):
        ids = tokenizer(words).input_ids[1:-1]
        print([tokenizer.decode([token]) for token in ids])


if __name__ == "__main__":
    main()
