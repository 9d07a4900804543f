"""CLIP's byte-pair tokenizer, from the files that a checkpoint carries."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..adapters.inversion import Embedding, Words, teach
from ..errors import BundleError
from ..files import read_json

if TYPE_CHECKING:  # the command line's --help is to load no engine and no tokenizer
    from tokenizers import Tokenizer

# CLIP cuts text into contractions, runs of letters, single digits and runs of anything else
# (Radford et al. 2021, the pattern of the reference implementation).
_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|"
    r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)

_MARKS = ("<|startoftext|>", "<|endoftext|>")


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
    """One token of a text, and where in the text it begins."""

    id: int
    start: int


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


class ClipTokenizer:
    """Turns a prompt into the ids of transformers' CLIPTokenizer.

    folder: holds `tokenizer.json`, or `vocab.json` and `merges.txt`; the optional
        `tokenizer_config.json` and `special_tokens_map.json` name the length and the pad token.
    Raises BundleError where a file is missing or unreadable.
    """

    lead = 1

    def __init__(self, folder: Path) -> None:
        settings = {
            **read_json(folder / "special_tokens_map.json", optional=True),
            **read_json(folder / "tokenizer_config.json", optional=True),
        }
        self._tokenizer = _load(folder)
        self.max_length = _length(settings)
        self.bos = token_id(self._tokenizer, settings.get("bos_token", _MARKS[0]), folder)
        self.eos = token_id(self._tokenizer, settings.get("eos_token", _MARKS[1]), folder)
        self.pad = token_id(self._tokenizer, settings.get("pad_token", _MARKS[1]), folder)
        self._words = Words((), {})
        self.comma: int | None = self._tokenizer.token_to_id(",</w>")

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
        """All tokens of a text, however many, without marks and padding."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return [
            Piece(number, start)
            for first, (start, _) in zip(encoding.ids, encoding.offsets, strict=True)
            for number in (first, *self._words.following(first))
        ]

    def learn(self, embeddings: Sequence[Embedding]) -> Words:
        """Know these words of textual inversion from now on; AdapterError where one is taken."""
        self._words = teach(self._tokenizer, embeddings)
        return self._words

    def framed(self, ids: Sequence[int]) -> NDArray[np.int64]:
        """Up to `room` ids begun, ended and padded: int64 of shape (1, max_length)."""
        whole = [self.bos, *ids, self.eos]
        whole += [self.pad] * (self.max_length - len(whole))
        return np.array([whole], dtype=np.int64)


def token_id(tokenizer: "Tokenizer", token: Any, folder: Path) -> int:
    """The id of a token as a tokenizer's settings name it, by its text or as an object.

    Raises BundleError, naming the tokenizer's folder, where the vocabulary lacks it.
    """
    text = token["content"] if isinstance(token, dict) else token
    number = tokenizer.token_to_id(text)
    if number is None:
        raise BundleError(f"{folder}: the vocabulary has no {text!r}; copy it from the checkpoint")
    return int(number)


def words_from(text: str, start: int) -> str:
    """The end of a text from the word that holds `start`: a cut inside a word loses the word."""
    return text[text.rfind(" ", 0, start + 1) + 1 :].strip()


def _load(folder: Path) -> "Tokenizer":
    from tokenizers import Tokenizer

    whole = folder / "tokenizer.json"
    parts = folder / "vocab.json", folder / "merges.txt"
    try:
        if all(part.is_file() for part in parts):
            return _from_vocabulary(*parts)
        if whole.is_file():
            return unframed(Tokenizer.from_file(str(whole)))
    except Exception as error:  # the tokenizers library raises bare Exception
        raise BundleError(
            f"{folder}: unreadable tokenizer ({error}); put whole files there"
        ) from error
    raise BundleError(
        f"{folder}: no tokenizer here: expected tokenizer.json, or vocab.json and merges.txt"
    )


def _from_vocabulary(vocab: Path, merges: Path) -> "Tokenizer":
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(
        models.BPE.from_file(
            str(vocab), str(merges), unk_token=_MARKS[1], end_of_word_suffix="</w>", fuse_unk=False
        )
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
    for mark in _MARKS:
        if tokenizer.token_to_id(mark) is None:
            raise ValueError(f"the vocabulary has no {mark}: this is no CLIP tokenizer")
    tokenizer.add_special_tokens(list(_MARKS))
    return tokenizer


def unframed(tokenizer: "Tokenizer") -> "Tokenizer":
    """The tokenizer without the padding and cutting that a file may ask for: `framed` pads."""
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _length(settings: dict[str, Any]) -> int:
    # Some configurations carry 1e30 for "no limit"; CLIP's text encoder has 77 positions.
    length = settings.get("model_max_length", 77)
    return int(length) if length < 1e6 else 77
