"""A prompt, read for as many steps as a picture has, before anything is computed."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .schedule import texts_by_step

log = logging.getLogger("pleinair")


class Text(Protocol):
    """A text as a model's encoders take it: tokens.

    length: pieces that the encoders read one by one; a shorter text is padded to a longer one's.
    """

    @property
    def length(self) -> int: ...


Read = Callable[[str], Any]
"""From a text to the `Text` that a family's encoders take; raises PromptError."""


@dataclass(frozen=True)
class TokenizedPrompt:
    """A prompt before any computing.

    texts: the different ones that it is in the course of a picture, each a `Text`.
    order: for each step the number of its text.
    """

    texts: Sequence[Any]
    order: Sequence[int]

    @property
    def length(self) -> int:
        """That of the longest text."""
        return max(int(text.length) for text in self.texts)


def tokenized(read: Read, prompt: str, steps: int, syntax: str = "webui") -> TokenizedPrompt:
    """Read a prompt for a picture of `steps` steps: its schedule, then each text of it.

    syntax: "webui" or "plain", which has no schedule. One line is logged where a text is read in
        more than one piece.
    """
    by_step = texts_by_step(prompt, steps) if syntax == "webui" else [prompt] * steps
    number = {text: i for i, text in enumerate(dict.fromkeys(by_step))}
    found = TokenizedPrompt([read(text) for text in number], [number[text] for text in by_step])
    if found.length > 1:
        log.info("prompt is read in %d chunks", found.length)
    return found
