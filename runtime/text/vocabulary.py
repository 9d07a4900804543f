"""A tokenizer's files: its vocabulary, merges, added tokens and settings, read and checked.

Added tokens are words that a checkpoint knows beyond the vocabulary: those of textual inversion in
a pipeline that was saved whole, and T5's extra ids. Programs have kept them in three files.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from ..errors import BundleError, PleinairError, shown
from ..files import conform, read_json

if TYPE_CHECKING:  # the command line's --help is to load no engine and no tokenizer
    from tokenizers import Tokenizer

Id = Annotated[int, Meta(ge=0, lt=2**31)]

_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token")
# As much as the largest JSON file that is read.
_LARGEST_MERGES = 64 << 20
# transformers writes 1e30 for a tokenizer that knows no limit.
_UNBOUNDED = 1e6


class Token(Struct, frozen=True):
    """A token as tokenizers and transformers write it.

    normalized: whether it is looked for in the text as normalized, which CLIP makes lower case;
        None is what its kind does: special ones are not.
    """

    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool | None = None
    special: bool = False


class _Listed(Token, frozen=True):
    id: Id = 0


class _Whole(Struct):
    """tokenizer.json, as far as added tokens go."""

    added_tokens: list[_Listed] = []


class _Config(Struct):
    """tokenizer_config.json, and special_tokens_map.json, which says a part of the same."""

    bos_token: Token | str | None = None
    eos_token: Token | str | None = None
    unk_token: Token | str | None = None
    sep_token: Token | str | None = None
    pad_token: Token | str | None = None
    cls_token: Token | str | None = None
    model_max_length: int | float | None = None
    added_tokens_decoder: dict[str, Token] | None = None
    additional_special_tokens: list[Token | str] | None = None
    extra_special_tokens: list[Token | str] | dict[str, Token | str] | None = None


class Merges(Struct):
    """The model of a byte-pair tokenizer.json."""

    vocab: dict[str, Id]
    merges: list[Annotated[list[str], Meta(min_length=2, max_length=2)] | str]


class _WholeBPE(Struct):
    model: Merges


@dataclass(frozen=True)
class Settings:
    """What a tokenizer's folder says beside the vocabulary.

    special: "pad_token" and the like -> the token.
    added: token's text -> the token, and the id that the folder gives it, None where it gives none.
    length: tokens that the text encoder takes at once; None where the folder knows no limit.
    """

    special: Mapping[str, str]
    added: Mapping[str, tuple[Token, int | None]]
    length: int | float | None

    @classmethod
    def read(cls, folder: Path, usual: Mapping[str, str]) -> "Settings":
        """usual: the special tokens of its kind, where the folder names no other.

        Raises BundleError, naming file and field, for what is damaged.
        """
        config = _config(folder / "tokenizer_config.json")
        # transformers' order: the older file counts where the newer one lists no added tokens.
        older = folder / "special_tokens_map.json"
        special = {name: _as_special(token) for name, token in usual.items()} | _special(config)
        if config.added_tokens_decoder is None:
            special |= _special(_config(older))
        added: dict[str, tuple[Token, int | None]] = {}
        for token, number in _added(folder, config, special):
            added.setdefault(token.content, (token, number))
        for token in special.values():
            added.setdefault(token.content, (token, None))
        for content in added:
            if any("\ud800" <= letter <= "\udfff" for letter in content):
                raise BundleError(
                    f"{folder}: the added token {content!a} is half a character; copy the tokenizer"
                )
        named = {name: special[name].content for name in _SPECIAL if name in special}
        length = config.model_max_length
        return cls(named, added, None if length is None or length >= _UNBOUNDED else length)


def _config(file: Path) -> _Config:
    return conform(read_json(file, optional=True), _Config, file)


def _special(config: _Config) -> dict[str, Token]:
    """The special tokens of a file, by name; additional ones by their own text."""
    named = {name: getattr(config, name) for name in _SPECIAL}
    extra = config.extra_special_tokens or ()
    more = [
        *(config.additional_special_tokens or ()),
        *(extra.values() if isinstance(extra, dict) else extra),
    ]
    named |= {f"more: {token}": token for token in more}
    return {name: _as_special(token) for name, token in named.items() if token is not None}


def _as_special(token: Token | str) -> Token:
    if isinstance(token, str):
        return Token(token, special=True)
    return Token(
        token.content,
        single_word=token.single_word,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        normalized=token.normalized,
        special=True,
    )


def _added(
    folder: Path, config: _Config, special: Mapping[str, Token]
) -> Iterator[tuple[Token, int | None]]:
    """The tokens that each file gives an id, the file that transformers trusts most first."""
    file = folder / "tokenizer_config.json"
    for key, token in (config.added_tokens_decoder or {}).items():
        if not (key.isdecimal() and len(key) < 10):
            raise BundleError(f"{file}: {shown(key)!r} in added_tokens_decoder is no token's id")
        yield token, int(key)
    whole = folder / "tokenizer.json"
    for listed in conform(read_json(whole, optional=True), _Whole, whole).added_tokens:
        yield listed, listed.id
    old = folder / "added_tokens.json"
    marks = {token.content for token in special.values()}
    for content, number in conform(read_json(old, optional=True), dict[str, Id], old).items():
        yield Token(content, special=content in marks), number


def read_merges(
    folder: Path, *, error: type[PleinairError] = BundleError
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The vocabulary and the merges of a byte-pair tokenizer.

    They are `vocab.json` and `merges.txt` where both are there, else the model in `tokenizer.json`.
    Raises `error` where a file is missing, damaged, or of another tokenizer.
    """
    vocab_file, merges_file = folder / "vocab.json", folder / "merges.txt"
    if vocab_file.exists() and merges_file.exists():
        vocab = conform(read_json(vocab_file, error=error), dict[str, Id], vocab_file, error=error)
        merges, file = _merges(merges_file, error), merges_file
    elif (file := folder / "tokenizer.json").exists():
        model = conform(read_json(file, error=error), _WholeBPE, file, error=error).model
        vocab, merges = model.vocab, [_pair(merge, file, error) for merge in model.merges]
    else:
        raise error(
            f"{folder}: no tokenizer here: expected tokenizer.json, or vocab.json and merges.txt"
        )
    _check(vocab, merges, file, error)
    return vocab, merges


def _merges(file: Path, error: type[PleinairError]) -> list[tuple[str, str]]:
    if not file.is_file() or file.stat().st_size > _LARGEST_MERGES:
        raise error(f"{file}: not a regular file of merges; copy it from the checkpoint")
    try:
        lines = file.read_bytes().decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as problem:
        raise error(f"{file}: cannot be read ({problem}); copy it from the checkpoint") from problem
    lines = [line.rstrip("\r") for line in lines]
    return [_pair(line, file, error) for line in lines if line and not line.startswith("#version")]


def _pair(merge: str | Sequence[str], file: Path, error: type[PleinairError]) -> tuple[str, str]:
    # tokenizers 0.20 began to write pairs instead of "left right".
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if len(parts) != 2:
        raise error(f"{file}: {shown(merge)!r} is no merge of two; copy it from the checkpoint")
    return parts[0], parts[1]


def _check(
    vocab: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    file: Path,
    error: type[PleinairError],
) -> None:
    if not merges:
        raise error(f"{file}: holds no merges: words would become letters; copy it anew")
    twice = [number for number, count in Counter(vocab.values()).items() if count > 1]
    if twice:
        raise error(f"{file.parent}: two tokens of the vocabulary have the id {twice[0]}; copy it")
    for left, right in merges:
        if left not in vocab or right not in vocab or left + right not in vocab:
            raise error(
                f"{file}: merges {shown(left)!r} and {shown(right)!r}, which the vocabulary does "
                "not know: it is of another vocabulary; copy both from one checkpoint"
            )
    made = {left + right for left, right in merges}
    letters = [token for token in vocab if len(token.removesuffix("</w>")) == 1]
    lost = len(vocab.keys() - made - set(letters))
    # The marks, and words that were added to the vocabulary itself, are made by no merge.
    if lost > len(vocab) // 100 + 8:
        raise error(
            f"{file}: makes {len(made)} of the vocabulary's {len(vocab)} tokens: its end is "
            "missing, or it is of another vocabulary; copy both from one checkpoint"
        )


def add_tokens(tokenizer: "Tokenizer", settings: Settings, folder: Path) -> None:
    """Let a tokenizer know the added tokens of its folder.

    Raises BundleError where one would not get the id that the folder gives it.
    """
    from tokenizers import AddedToken

    def number(entry: tuple[Token, int | None]) -> int:
        return 2**31 if entry[1] is None else entry[1]

    for token, expected in sorted(settings.added.values(), key=number):
        text = token.content
        if expected is None:
            token_id(tokenizer, text, folder)  # one that the vocabulary has to know
        added = AddedToken(
            text,
            single_word=token.single_word,
            lstrip=token.lstrip,
            rstrip=token.rstrip,
            normalized=not token.special if token.normalized is None else token.normalized,
            special=token.special,
        )
        tokenizer.add_tokens([added])
        found = tokenizer.token_to_id(text)
        if expected not in (None, found):
            raise BundleError(
                f"{folder}: gives the added token {shown(text)!r} the id {expected}, and "
                f"{'no id' if found is None else found} is next; copy the tokenizer from the "
                "checkpoint"
            )


def token_id(tokenizer: "Tokenizer", token: str, folder: Path) -> int:
    """The id of a token.

    Raises BundleError, naming the tokenizer's folder, where the vocabulary lacks it.
    """
    number = tokenizer.token_to_id(token)
    if number is None:
        raise BundleError(
            f"{folder}: the vocabulary has no {shown(token)!r}; copy it from the checkpoint"
        )
    return int(number)


def largest_id(tokenizer: "Tokenizer") -> tuple[int, str]:
    """The largest id that a tokenizer gives, and the token that has it."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    token = max(vocabulary, key=lambda token: vocabulary[token])
    return vocabulary[token], token


def check_rows(tokenizer: "Tokenizer", rows: int, folder: Path) -> None:
    """Raise BundleError where a token has no row in the text encoder's embedding."""
    number, token = largest_id(tokenizer)
    if number >= rows:
        raise BundleError(
            f"{folder}: the token {shown(token)!r} has the id {number}, and the text encoder's "
            f"embedding has {rows} rows: the tokenizer is of another model; take both from one"
        )


def unframed(tokenizer: "Tokenizer") -> "Tokenizer":
    """The tokenizer without the padding and cutting that a file may ask for."""
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
