"""Weights in a prompt: `(word)`, `(word:1.3)`, `[word]`, and BREAK, as webui's users write them.

The syntax is that of AUTOMATIC1111's stable-diffusion-webui. Nothing that a user can type is an
error in it: a bracket that closes nothing is text, one that is never closed holds to the end.
"""

import re
from dataclasses import dataclass

import numpy as np

from ..graphs.scales import MOST

# What one bracket multiplies the weight of its words by.
_FACTORS = {")": 1.1, "]": 1 / 1.1}
_CLOSER = {"(": ")", "[": "]"}

_TOKEN = re.compile(
    r"""
    \\(?P<escaped>[()\[\]\\]?)              # a backslash that escapes nothing goes away
    | (?P<opener>[(\[])
    | :\s*(?P<weight>[+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*\)
    | (?P<closer>[)\]])
    | [^\\()\[\]:]+
    | :
    """,
    re.VERBOSE,
)
_BREAK = re.compile(r"\bBREAK\b")

# Brackets nested deeper weigh nothing: by then a weight is the heaviest.
_DEEPEST = 256


@dataclass(frozen=True)
class Span:
    """Words of a prompt that share one weight, which multiplies the rows of their embedding."""

    text: str
    weight: float


def emphasised(prompt: str) -> list[list[Span]]:
    """The prompt as stretches of weighted words; a BREAK stands between any two stretches.

    Neighbours of equal weight are one span, so that a word is not torn: "(un)(happy)" is
    "unhappy". A prompt without brackets, backslashes and BREAK is one span of weight 1.
    Unlike webui a BREAK inside brackets is a BREAK too; webui reads it as the word "break".
    """
    texts: list[str | None] = []  # None is a BREAK
    factors: list[tuple[int, int, float]] = []  # of the texts from here to there
    opened: dict[str, list[int | None]] = {closer: [] for closer in _FACTORS}
    for match in _TOKEN.finditer(prompt):
        kind, text = match.lastgroup, match.group()
        closer = ")" if kind == "weight" else match["closer"]
        if kind == "opener":
            starts = opened[_CLOSER[text]]
            starts.append(len(texts) if len(starts) < _DEEPEST else None)
        elif closer and opened[closer]:
            factor = float(match["weight"]) if kind == "weight" else _FACTORS[closer]
            if (start := opened[closer].pop()) is not None:
                factors.append((start, len(texts), factor))
        else:
            texts += [match["escaped"]] if kind == "escaped" else _split(text)
    for closer, starts in opened.items():
        factors += [(start, len(texts), _FACTORS[closer]) for start in starts if start is not None]
    return _grouped(texts, _weights(len(texts), factors))


def _split(text: str) -> list[str | None]:
    """Words with None for each BREAK between them."""
    first, *others = _BREAK.split(text)
    if not others:
        return [text]
    parts: list[str | None] = [first.rstrip()]
    for other in others[:-1]:
        parts += [None, other.strip()]
    return [*parts, None, others[-1].lstrip()]


def _weights(count: int, factors: list[tuple[int, int, float]]) -> list[float]:
    weights = np.ones(count)
    for start, end, factor in factors:
        # Clipped before and after: 400 digits are infinite, and infinity times 0 is no number.
        weights[start:end] *= np.clip(factor, -MOST, MOST)
        np.clip(weights[start:end], -MOST, MOST, out=weights[start:end])
    return [float(weight) for weight in weights]


def _grouped(texts: list[str | None], weights: list[float]) -> list[list[Span]]:
    stretches: list[list[Span]] = [[]]
    for text, weight in zip(texts, weights, strict=True):
        spans = stretches[-1]
        if text is None:
            stretches.append([])
        elif text and spans and spans[-1].weight == weight:
            spans[-1] = Span(spans[-1].text + text, weight)
        elif text:
            spans.append(Span(text, weight))
    return stretches
