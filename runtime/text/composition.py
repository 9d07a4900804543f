"""Prompts joined with AND, each with a weight: `a cat AND a dog :0.8`, in webui's syntax.

Each is a branch of its own under guidance [Liu et al. 2022, arXiv 2206.01714].
"""

import logging
import math
import re
from dataclasses import dataclass

from ..errors import PromptError, shown
from ..graphs.scales import MOST

log = logging.getLogger("pleinair")

MOST_PARTS = 16
"""Every part is computed in every step."""

_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r"\s*([-+]?(?:\d{1,9}\.?|\d{0,9}\.\d{1,30}))\s*")


@dataclass(frozen=True)
class Part:
    """One of the prompts, and how much of what it adds is taken."""

    text: str
    weight: float = 1.0


def parts_of(prompt: str) -> list[Part]:
    """The prompts that AND joins; one that joins none is as it stands.

    A weight behind a prompt alone is text, and one line says so: `16:9` is more often meant.
    Raises PromptError for more parts than are painted.
    """
    texts = _AND.split(prompt, maxsplit=MOST_PARTS)
    if len(texts) == 1:
        if (part := _weighed(prompt)).text != prompt:
            log.warning(
                "%r at the end of the prompt is painted as text; a weight stands behind each of "
                "several prompts that AND joins",
                shown(prompt.strip()[len(part.text) :].strip()),
            )
        return [Part(prompt)]
    if len(texts) > MOST_PARTS:
        raise PromptError(
            f"AND joins more than {MOST_PARTS} prompts, and each is computed in every step; "
            "join fewer"
        )
    return [_weighed(text.strip()) for text in texts]


def _weighed(text: str) -> Part:
    before, colon, weight = text.rpartition(":")
    match = _WEIGHT.fullmatch(weight) if colon else None
    if match is None or not math.isfinite(float(match[1])):
        return Part(text)
    return Part(before.strip(), min(MOST, max(-MOST, float(match[1]))))
