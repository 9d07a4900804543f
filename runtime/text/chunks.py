"""Prompts of any length, cut into pieces that the text encoder can read.

CLIP's text encoder reads 77 tokens, 75 of them the prompt's. stable-diffusion-webui found that
several such chunks, each encoded on its own and laid side by side, steer the UNet well: its
cross-attention takes any number of tokens. The cuts are webui's, so that its prompts keep theirs.
Other text encoders' prompts are cut in the same way.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import PromptError
from .emphasis import Span, emphasised
from .tokenizer import TextTokenizer, words_from

# A cut goes back to behind a comma that is at most this many tokens away: webui's setting.
_BACK_TO_COMMA = 20

MOST_CHUNKS = 100
"""More of a prompt are not read: every one makes each step slower, and each is read by itself."""


@dataclass(frozen=True)
class Chunk:
    """What the text encoder reads at once.

    ids: int64 of shape (1, max_length), begun, ended and padded.
    weights: float64 of shape (max_length,); 1 for the marks and the padding.
    """

    ids: NDArray[np.int64]
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class ChunkedText:
    """A text in chunks, at least one.

    empty: the chunk of the empty text, which makes a shorter text as long as a longer one.
    dropped: a line for each part of the text that did not fit and was cut.
    tokens: those that are read, marks and padding aside.
    """

    chunks: Sequence[Chunk]
    empty: Chunk
    dropped: Sequence[str] = ()
    tokens: int = 0

    def __iter__(self) -> Iterator[Chunk]:
        return iter(self.chunks)

    @property
    def length(self) -> int:
        return len(self.chunks)

    def padded(self, length: int) -> list[Chunk]:
        """As many chunks, as webui pads."""
        return [*self.chunks, *[self.empty] * (length - len(self.chunks))]


class _Token(NamedTuple):
    id: int
    weight: float
    start: int  # where in its stretch's text
    continues: bool  # the word of the token before it


def chunks_of(
    tokenizer: TextTokenizer, text: str, *, syntax: str = "webui", long_prompt: str = "chunk"
) -> ChunkedText:
    """A text in the prompt language, cut into chunks.

    syntax: "webui" reads weights `(word:1.3)` and BREAK, as people write them because prompts are
        passed around so; a text without brackets, backslashes and BREAK is the same either way.
        "plain" takes every character as text, as diffusers does.
    long_prompt: what becomes of a text that fits no single chunk: "chunk" reads all of it, "stop"
        is an error, "truncate" cuts it.

    A BREAK fills up its chunk in every mode: it is the user's own wish for another one, and the
    words between two of them are what has to fit.
    The vectors of a word of textual inversion stay together: where they do not fit, the word begins
    the next chunk.
    Raises PromptError, which names the words that do not fit, with "stop"; and for a text of more
    than MOST_CHUNKS chunks.
    """
    stretches = emphasised(text) if syntax == "webui" else [[Span(text, 1.0)]]
    if len(stretches) > 1 and not stretches[-1]:
        stretches.pop()  # nothing comes after the last BREAK
    chunks: list[Chunk] = []
    dropped, count = [], 0
    for spans in stretches:
        tokens = _tokens(tokenizer, spans)
        more = len(tokens) // tokenizer.room if long_prompt == "chunk" else 0
        _check_length(len(chunks) + more, tokenizer)
        if len(tokens) <= tokenizer.room:
            chunks.append(_framed(tokenizer, tokens))
        elif long_prompt == "chunk":
            cuts = _cut(tokens, tokenizer.room, tokenizer.comma)
            chunks += [_framed(tokenizer, cut) for cut in cuts]
        else:
            marked = len(tokens) + tokenizer.max_length - tokenizer.room
            length = f"prompt is {marked} tokens long and {tokenizer.max_length} fit"
            end = _before_word(tokens, tokenizer.room)
            lost = words_from(_text(spans), tokens[end].start)
            if long_prompt == "stop":
                raise PromptError(f"{length}; too much: {lost}; shorten it, or allow chunks")
            dropped.append(f"{length}; dropped: {lost}")
            tokens = tokens[:end]
            chunks.append(_framed(tokenizer, tokens))
        count += len(tokens)
    return ChunkedText(chunks, _framed(tokenizer, []), dropped, count)


def _check_length(chunks: int, tokenizer: TextTokenizer) -> None:
    if chunks > MOST_CHUNKS:
        raise PromptError(
            f"prompt is longer than {MOST_CHUNKS} chunks of {tokenizer.room} tokens, which no "
            'picture could follow; shorten it, or cut it with long_prompt "truncate"'
        )


def _tokens(tokenizer: TextTokenizer, spans: Sequence[Span]) -> list[_Token]:
    tokens, start = [], 0
    for span in spans:
        pieces = tokenizer.pieces(span.text)
        tokens += [
            _Token(piece.id, span.weight, start + piece.start, piece.continues) for piece in pieces
        ]
        start += len(span.text)
    return tokens


def _cut(tokens: list[_Token], room: int, comma: int | None) -> list[list[_Token]]:
    cuts = []
    while len(tokens) > room:
        end = _cut_before(tokens, room, comma)
        cuts.append(tokens[:end])
        tokens = tokens[end:]
    return [*cuts, tokens]


def _before_word(tokens: list[_Token], end: int) -> int:
    """Where the word begins that a cut before the token `end` would tear; `end` where it does not.

    A word's vectors are never more than the room of a chunk.
    """
    while tokens[end].continues:
        end -= 1
    return end


def _cut_before(tokens: list[_Token], room: int, comma: int | None) -> int:
    if tokens[room].continues:
        return _before_word(tokens, room)  # webui's rule: no comma counts here
    if tokens[room].id == comma:
        return room  # the full chunk ends where a phrase does
    for last in range(room - 1, max(room - _BACK_TO_COMMA, 0) - 1, -1):
        if tokens[last].id == comma:
            return last + 1
    return room


def _framed(tokenizer: TextTokenizer, tokens: Sequence[_Token]) -> Chunk:
    weights = np.ones(tokenizer.max_length)
    weights[tokenizer.lead :][: len(tokens)] = [token.weight for token in tokens]
    return Chunk(tokenizer.framed([token.id for token in tokens]), weights)


def _text(spans: Sequence[Span]) -> str:
    return "".join(span.text for span in spans)
