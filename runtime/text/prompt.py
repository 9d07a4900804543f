"""A prompt, read for as many steps as a picture has, before anything is computed."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ..errors import PromptError
from .composition import parts_of
from .networks import without_tags
from .schedule import texts_by_step
from .wildcards import tell_of_undrawn

log = logging.getLogger("pleinair")

# Characters of a prompt; what fits into the chunks that are read is shorter, in any script.
_LONGEST = 40_000


class Text(Protocol):
    """A text as a model's encoders take it: tokens.

    length: pieces that the encoders read one by one; a shorter text is padded to a longer one's.
    dropped: a line for each part that did not fit and was cut.
    tokens: those of the text itself that are read, 0 or more.
    """

    @property
    def length(self) -> int: ...

    @property
    def tokens(self) -> int: ...

    @property
    def dropped(self) -> Sequence[str]: ...


Read = Callable[[str], Any]
"""From a text to the `Text` that a family's encoders take; raises PromptError."""


@dataclass(frozen=True)
class TokenizedPrompt:
    """A prompt before any computing.

    texts: the different ones that it is in the course of a picture, each a `Text`.
    order: for each step the number of its text.
    weight: how much it counts among those that AND joins.
    others: the prompts that AND joins to it.
    """

    texts: Sequence[Any]
    order: Sequence[int]
    weight: float = 1.0
    others: "Sequence[TokenizedPrompt]" = ()

    @property
    def parts(self) -> "Sequence[TokenizedPrompt]":
        """It and those that are joined to it."""
        return (self, *self.others)

    @property
    def length(self) -> int:
        """That of the longest text of all parts."""
        return max(int(text.length) for part in self.parts for text in part.texts)

    @property
    def tokens(self) -> int:
        """Of all parts, each by the longest text that it is in the course of a picture."""
        return sum(max(int(text.tokens) for text in part.texts) for part in self.parts)


def tokenized(read: Read, prompt: str, steps: int, syntax: str = "webui") -> TokenizedPrompt:
    """Read a prompt for a picture of `steps` steps: its schedule, then each text of it.

    syntax: "webui" or "plain", which has no schedule. One line is logged where a text is read in
        more than one piece, one for what is cut, and one for what of "webui" is not painted.
    Raises PromptError for a prompt that is too long to be read at all.
    """
    if len(prompt) > _LONGEST:
        raise PromptError(
            f"prompt is {len(prompt):,} characters long, and more than {_LONGEST:,} are not read: "
            "shorten it"
        )
    if syntax == "webui":
        tell_of_undrawn(prompt)
        prompt = without_tags(prompt)
    by_step = texts_by_step(prompt, steps) if syntax == "webui" else [prompt] * steps
    number = {text: i for i, text in enumerate(dict.fromkeys(by_step))}
    texts = [read(text) for text in number]
    for line in dict.fromkeys(line for text in texts for line in text.dropped):
        log.warning("%s", line)
    found = TokenizedPrompt(texts, [number[text] for text in by_step])
    if found.length > 1:
        log.info("prompt is read in %d chunks", found.length)
    return found


def joined(read: Read, prompt: str, steps: int, syntax: str = "webui") -> TokenizedPrompt:
    """Read a prompt as `tokenized` does, and each that AND joins in it by itself.

    A negative prompt is none of them: there webui takes AND as text.
    """
    if syntax != "webui":
        return tokenized(read, prompt, steps, syntax)
    first, *others = [
        replace(tokenized(read, part.text, steps), weight=part.weight) for part in parts_of(prompt)
    ]
    return replace(first, others=others)
