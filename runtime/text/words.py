"""Words of textual inversion in a text: where they stand, and the ids of their vectors."""

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..adapters.inversion import Embedding, Words
from ..errors import AdapterError, shown

_BLANKS = r"\s+"


@dataclass(frozen=True)
class WordFinder:
    """Finds words in a text, whatever their case.

    A word is not found inside another one: where it begins or ends with a letter, no letter may
    stand before or behind it, as in webui, which compares tokens. Only letters that have a case
    count here: scripts without one are mostly written without blanks between the words.
    """

    words: Words

    def parts(self, text: str) -> Iterator[tuple[int, str, tuple[int, ...]]]:
        """The text in parts: where each begins, the part, and the ids of its word; () is no word.

        Parts that are no word are as they stand.
        """
        if self._pattern is None:
            yield 0, text, ()
            return
        text = unicodedata.normalize("NFC", text)  # as CLIP reads it
        done = start = 0
        while match := self._pattern.search(text, start):
            if _torn(text, match.start()) or _torn(text, match.end()):
                start = match.start() + 1
                continue
            if match.start() > done:
                yield done, text[done : match.start()], ()
            assert match.lastindex  # one group a word
            yield match.start(), match.group(), self._ids[match.lastindex - 1]
            done = start = match.end()
        if done < len(text) or not text:
            yield done, text[done:], ()

    @cached_property
    def _longest_first(self) -> list[Embedding]:
        return sorted(self.words.embeddings, key=lambda item: len(item.word), reverse=True)

    @cached_property
    def _ids(self) -> list[tuple[int, ...]]:
        rows = self.words.rows
        return [tuple(rows[token] for token in item.tokens) for item in self._longest_first]

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        """Any of the words, a group each."""
        words = [_key(item.word).split(" ") for item in self._longest_first]
        groups = [f"({_BLANKS.join(map(re.escape, parts))})" for parts in words]
        return re.compile("|".join(groups), re.IGNORECASE) if groups else None


def taught(embeddings: Sequence[Embedding], first: int, known: Collection[str], room: int) -> Words:
    """The words of these embeddings, with ids from `first` on.

    known: words that the checkpoint's tokenizers know by themselves.
    room: vectors that fit into a chunk.
    Raises AdapterError where a word is taken or given twice, or has too many vectors.
    """
    rows: dict[str, int] = {}
    taken = {_key(word) for word in known}
    for item in embeddings:
        for token in item.tokens:
            if _key(token) in taken:
                raise AdapterError(
                    f"{item.path}: the word {shown(token)!r} is taken; name another, as in "
                    "FILE:WORD"
                )
            taken.add(_key(token))
            rows[token] = first + len(rows)
        if len(item.tokens) > room:
            raise AdapterError(
                f"{item.path}: has {len(item.tokens)} vectors, and the text encoder reads {room} "
                "tokens at once: no prompt can hold it; take an embedding of fewer"
            )
    return Words(tuple(embeddings), rows)


def _torn(text: str, at: int) -> bool:
    """Whether a cut there goes through a run of letters."""
    return 0 < at < len(text) and _has_case(text[at - 1]) and _has_case(text[at])


def _has_case(letter: str) -> bool:
    return letter.lower() != letter.upper()


def _key(word: str) -> str:
    """A word as it is compared."""
    return " ".join(unicodedata.normalize("NFC", word).split()).lower()
