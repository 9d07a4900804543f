"""CLIP's byte-pair tokenizer, from the files that a checkpoint carries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Protocol

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from ..adapters.inversion import Embedding, Words
from ..errors import BundleError, PromptError, shown
from ..files import conform
from .vocabulary import (
    Settings,
    add_tokens,
    check_rows,
    largest_id,
    read_merges,
    token_id,
    unframed,
)
from .words import WordFinder, taught

if TYPE_CHECKING:  # the command line's --help is to load no engine and no tokenizer
    from tokenizers import Tokenizer

# CLIP cuts text into contractions, runs of letters, single digits and runs of anything else
# (Radford et al. 2021, the pattern of the reference implementation).
_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|"
    r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)

_MARKS = ("<|startoftext|>", "<|endoftext|>")
_USUAL = {
    "bos_token": _MARKS[0],
    "eos_token": _MARKS[1],
    "unk_token": _MARKS[1],
    "pad_token": _MARKS[1],
}

POSITIONS = 77
"""Tokens that CLIP's text encoder reads at once."""


@dataclass(frozen=True)
class Tokens:
    """One prompt as the text encoder reads it.

    ids: int64 of shape (1, max_length), begun, ended and padded.
    count: tokens of the whole prompt, both marks included, before anything was cut.
    dropped: the end of the prompt that did not fit, from its first lost word on; "" if all did.
    """

    ids: NDArray[np.int64]
    count: int
    dropped: str


class Piece(NamedTuple):
    """One token of a text.

    start: where in the text it begins.
    continues: whether it belongs to the word of the token before it, which no cut may tear.
    """

    id: int
    start: int
    continues: bool = False


class TextTokenizer(Protocol):
    """What cutting a text into chunks asks of a text encoder's tokenizer."""

    lead: int
    """How many marks stand before a chunk's first token."""

    max_length: int
    """Ids of a chunk, marks and padding among them."""

    comma: int | None
    """The token at which a text is best cut; None where the vocabulary has none."""

    @property
    def room(self) -> int:
        """How many tokens of a text fit into a chunk, beside the marks."""
        ...

    def pieces(self, text: str) -> list[Piece]:
        """All tokens of a text, without marks and padding."""
        ...

    def framed(self, ids: Sequence[int]) -> NDArray[np.int64]:
        """Up to `room` ids, marked and padded: int64 of shape (1, max_length)."""
        ...


class _TextModel(Struct):
    """CLIP's text model, as far as its tokenizer has to fit it; transformers' defaults."""

    vocab_size: Annotated[int, Meta(ge=1, lt=2**31)] = 49408
    max_position_embeddings: Annotated[int, Meta(ge=4, le=4096)] = POSITIONS


class ClipTokenizer:
    """Turns a prompt into the ids of transformers' CLIPTokenizer.

    folder: holds `tokenizer.json`, or `vocab.json` and `merges.txt`; the optional
        `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json` name the length,
        the pad token and words that were added to the vocabulary.
    positions: tokens that the text encoder reads at once. rows: of its embedding.
    Raises BundleError where a file is missing, damaged, or of another text encoder.
    """

    lead = 1

    def __init__(self, folder: Path, positions: int = POSITIONS, rows: int | None = None) -> None:
        settings = Settings.read(folder, _USUAL)
        if settings.length not in (None, positions):
            raise BundleError(
                f"{folder / 'tokenizer_config.json'}: model_max_length is "
                f"{shown(settings.length)}, and the text encoder reads {positions} tokens; "
                f"write {positions} there"
            )
        self._tokenizer = _load(folder)
        add_tokens(self._tokenizer, settings, folder)
        if rows is not None:
            check_rows(self._tokenizer, rows, folder)
        self.max_length = positions
        self.bos, self.eos, self.pad = (
            token_id(self._tokenizer, settings.special[name], folder)
            for name in ("bos_token", "eos_token", "pad_token")
        )
        self._words = Words((), {})
        self._finder = WordFinder(self._words)
        self.comma: int | None = self._tokenizer.token_to_id(",</w>")

    @classmethod
    def fitting(cls, folder: Path, config: Mapping[str, Any], origin: Path) -> "ClipTokenizer":
        """That of a text encoder; raises BundleError where the two do not fit.

        config: the text encoder's, of the file `origin`.
        """
        model = conform(config, _TextModel, origin)
        return cls(folder, model.max_position_embeddings, model.vocab_size)

    @property
    def room(self) -> int:
        """How many tokens fit between the marks of beginning and end."""
        return self.max_length - 2

    def __call__(self, prompt: str) -> Tokens:
        """Ids of one prompt, padded to `max_length`; what does not fit is cut and named."""
        pieces = self.pieces(prompt)
        ids = self.framed([piece.id for piece in pieces[: self.room]])
        dropped = words_from(prompt, pieces[self.room].start) if len(pieces) > self.room else ""
        return Tokens(ids, len(pieces) + 2, dropped)

    def pieces(self, text: str) -> list[Piece]:
        """All tokens of a text, however many, without marks and padding.

        Raises PromptError for half a surrogate, which is no text.
        """
        check_text(text)
        pieces = []
        for start, part, ids in self._finder.parts(text):
            if ids:
                pieces += [Piece(number, start, i > 0) for i, number in enumerate(ids)]
                continue
            encoding = self._tokenizer.encode(part, add_special_tokens=False)
            each = zip(encoding.ids, encoding.offsets, strict=True)
            pieces += [Piece(number, start + first) for number, (first, _) in each]
        return pieces

    def learn(
        self, embeddings: Sequence[Embedding], others: Sequence["ClipTokenizer"] = ()
    ) -> Words:
        """Know these words of textual inversion from now on, as the model's other tokenizers do.

        Raises AdapterError where a word is taken, or has more vectors than fit into a chunk.
        """
        together = (self, *others)
        first = 1 + max(largest_id(one._tokenizer)[0] for one in together)
        known = {
            token.content
            for one in together
            for token in one._tokenizer.get_added_tokens_decoder().values()
        }
        words = taught(embeddings, first, known, self.room)
        for one in together:
            one._words, one._finder = words, WordFinder(words)
        return words

    def framed(self, ids: Sequence[int]) -> NDArray[np.int64]:
        """Up to `room` ids begun, ended and padded: int64 of shape (1, max_length)."""
        row = [self.bos, *ids, self.eos]
        row += [self.pad] * (self.max_length - len(row))
        return np.array([row], dtype=np.int64)


def check_text(text: str) -> None:
    """Raise PromptError for half a surrogate, which no text encoder can read."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PromptError(
            f"character {error.start + 1} of the prompt is half a character (a lone surrogate, "
            f"{text[error.start]!a}): read the text as UTF-8, or leave it out"
        ) from None


def words_from(text: str, start: int) -> str:
    """The end of a text from the word that holds `start`: a cut inside a word loses the word."""
    return text[text.rfind(" ", 0, start + 1) + 1 :].strip()


def _load(folder: Path) -> "Tokenizer":
    from tokenizers import Tokenizer

    vocab, merges = read_merges(folder)
    parts = folder / "vocab.json", folder / "merges.txt"
    try:
        if all(part.is_file() for part in parts):
            return _byte_pair(vocab, merges)
        return unframed(Tokenizer.from_file(str(folder / "tokenizer.json")))
    except Exception as error:  # the tokenizers library raises bare Exception
        raise BundleError(
            f"{folder}: unreadable tokenizer ({shown(str(error))}); put whole files there"
        ) from error


def _byte_pair(vocab: dict[str, int], merges: list[tuple[str, str]]) -> "Tokenizer":
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(
        models.BPE(vocab, merges, unk_token=_MARKS[1], end_of_word_suffix="</w>", fuse_unk=False)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    return tokenizer
