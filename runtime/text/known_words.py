"""The words that a small model knows, and which words of a prompt are not among them.

A model folder may carry `vocabulary.json`, as the bundled model does. Models that know a whole
language carry none, and nothing is said of them.
"""

import difflib
import functools
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec

from ..errors import shown
from ..files import conform, read_json
from .emphasis import emphasised

FILE = "vocabulary.json"

log = logging.getLogger("pleinair")

# Ideographs are written without blanks between words, so each is a piece by itself.
_IDEOGRAPH = "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_PIECE = re.compile(rf"[{_IDEOGRAPH}]|\d+|[^\W\d_{_IDEOGRAPH}]+")
_CONTRACTION = re.compile(r"['’](?:s|t|re|ve|m|ll|d)\b")
_TAG = re.compile(r"<[^<>]*>")  # of another program: a LoRA file, say
# What may stand inside a word, or between two that are named together.
_JOINT = re.compile(r"[\s_-]*")

_NAMED = 8  # unknown words that a line names, and near ones of so many
_NEAR = 2


_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
_Names = Annotated[list[_Name], msgspec.Meta(max_length=20_000)]
_Kind = Annotated[dict[_Name, _Names], msgspec.Meta(max_length=20_000)]


class _Listing(msgspec.Struct):
    """`vocabulary.json`.

    names: kind of word ("things") -> what it is called -> its further names.
    forms: further phrases that are known, such as plurals.
    fillers: words that mean nothing by themselves.
    """

    names: Annotated[dict[_Name, _Kind], msgspec.Meta(min_length=1, max_length=20)]
    forms: _Names = []
    fillers: _Names = []


class _Piece(NamedTuple):
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class KnownWords:
    """What a model knows by name.

    model: its name, as a message says it.
    names: kind -> what it is called -> its further names.
    phrases: everything that is understood, in pieces.
    warned: unknown words that were named already.
    """

    model: str
    names: Mapping[str, Mapping[str, Sequence[str]]]
    phrases: frozenset[tuple[str, ...]]
    warned: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, folder: Path, more: Iterable[str] = ()) -> "KnownWords | None":
        """That of a model folder; None where it carries no list.

        more: words that it has learnt since, such as those of textual inversion.
        Raises BundleError where the list is none.
        """
        file = folder / FILE
        content: dict[str, Any] = read_json(file, optional=True)
        if not content:
            return None
        listing = conform(content, _Listing, file)
        named = [
            name
            for kind in listing.names.values()
            for first, others in kind.items()
            for name in (first, *others)
        ]
        texts = (*named, *listing.forms, *listing.fillers, *more)
        phrases = frozenset(tuple(piece.text for piece in _pieces(text)) for text in texts)
        return cls(folder.resolve().name, listing.names, phrases)

    def unknown(self, text: str, *, syntax: str = "webui") -> list[str]:
        """The words of a text that are not known, in their order; neighbours together.

        The longest known phrase counts: "red apple" is known though "red" alone may not be.
        syntax: as in `chunks.read`; weights and BREAK of "webui" are no words.
        """
        if syntax == "webui":
            text = " ".join(
                "".join(span.text for span in spans) for spans in emphasised(_TAG.sub(" ", text))
            )
        found: list[_Piece] = []
        for piece in self._strange(_pieces(text)):
            if found and _JOINT.fullmatch(text, found[-1].end, piece.start):
                last = found.pop()
                piece = _Piece(text[last.start : piece.end], last.start, piece.end)
            found.append(piece)
        return list(dict.fromkeys(piece.text.lower() for piece in found))

    def _strange(self, pieces: Sequence[_Piece]) -> Iterator[_Piece]:
        """Those that are part of no known phrase, which is looked for from left to right."""
        words, at = [piece.text for piece in pieces], 0
        while at < len(words):
            ends = range(min(len(words), at + self._longest), at, -1)
            end = next((end for end in ends if tuple(words[at:end]) in self.phrases), None)
            if end is None:
                yield pieces[at]
            at = end or at + 1

    @functools.cached_property
    def _longest(self) -> int:
        return max(map(len, self.phrases), default=0)

    def warn(self, words: Iterable[str]) -> None:
        """Name unknown words in one line of the log, each once."""
        fresh = [word for word in dict.fromkeys(words) if word not in self.warned]
        if not fresh or not log.isEnabledFor(logging.WARNING):
            return
        self.warned.update(fresh)
        told = ", ".join(self._with_near(word) for word in fresh[:_NAMED])
        more = f" and {len(fresh) - _NAMED} more" if len(fresh) > _NAMED else ""
        log.warning(
            "%s does not know: %s%s; it knows %s, listed by: pleinair models --words %s",
            self.model,
            told,
            more,
            self.summary,
            self.model,
        )

    @property
    def summary(self) -> str:
        """How much it knows: "317 things, 4 styles and 14 backgrounds"."""
        counts = [f"{len(names)} {kind}" for kind, names in self.names.items()]
        return " and ".join(filter(None, (", ".join(counts[:-1]), counts[-1])))

    def _with_near(self, word: str) -> str:
        near = self.near(word)
        return f"{shown(word)} ({' or '.join(near)}?)" if near else shown(word)

    def near(self, word: str) -> list[str]:
        """Known names that hold this word, or are written much like it."""
        word = word.lower()
        holding = [name for name, text in self._said.items() if f" {_spaced(word)} " in text]
        names = [name for name in self._said if abs(len(name) - len(word)) <= 2]
        close = difflib.get_close_matches(word, names, _NEAR, 0.75) if len(word) < 40 else []
        return list(dict.fromkeys([*close, *sorted(holding, key=len)]))[:_NEAR]

    @functools.cached_property
    def _said(self) -> dict[str, str]:
        """Each name, as it is and in pieces with blanks around."""
        names = [
            name for kind in self.names.values() for first in kind for name in (first, *kind[first])
        ]
        return {name: f" {_spaced(name)} " for name in names}


def _pieces(text: str) -> list[_Piece]:
    """Words, numbers and single ideographs, in small letters as CLIP reads them."""
    blank = _CONTRACTION.sub(lambda match: " " * len(match.group()), text)
    return [_Piece(m.group().lower(), m.start(), m.end()) for m in _PIECE.finditer(blank)]


def _spaced(text: str) -> str:
    return " ".join(piece.text for piece in _pieces(text))
