"""Prompts that change while a picture is painted: `[from:to:when]` and `[a|b]`.

The syntax is that of stable-diffusion-webui, where it is called prompt editing and alternating
words. Everything else, weights included, is passed on as it stands; `emphasis` reads it then.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_PLAIN = re.compile(r"(?:[^\\\[\]():|]|\\.)+")
_WHEN = re.compile(r":\s*([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)\s*\]")
_BRACKET = re.compile(r"\\.|([\[(])|([\])])", re.DOTALL)
_CLOSER = {"(": ")", "[": "]"}

# Brackets nested deeper are text: ten thousand of them must exhaust neither stack nor patience.
_DEEPEST = 16

_Parts = Sequence["str | _Switch | _Cycle"]


@dataclass(frozen=True)
class _Switch:
    """`[before:after:when]`: the steps 1 to `when` see the one, those behind the other."""

    before: _Parts
    after: _Parts
    when: int

    def at(self, step: int) -> str:
        return _at(self.before if step <= self.when else self.after, step)


@dataclass(frozen=True)
class _Cycle:
    """`[a|b|c]`: each step sees the next, and after the last comes the first again."""

    options: Sequence[_Parts]

    def at(self, step: int) -> str:
        return _at(self.options[(step - 1) % len(self.options)], step)


def texts_by_step(prompt: str, steps: int) -> list[str]:
    """The text that each of `steps` steps sees.

    `when` with a decimal point is a fraction of the steps, without one a number of steps:
    `[a:b:0.25]` of 20 steps paints five with a. A prompt that webui's grammar does not cover,
    such as one with a bar outside of brackets, is the same text at every step.

    webui documents this count, and tests its parser by it, but its sampler looks one step back,
    so that the first switch comes a step later there (its issue 7279). Here the count is right.
    """
    parts = _Parser(prompt, steps).parse()
    if parts is None:
        return [prompt] * steps
    return [_at(parts, step) for step in range(1, steps + 1)]


def _at(parts: _Parts, step: int) -> str:
    return "".join(part if isinstance(part, str) else part.at(step) for part in parts)


_Found = tuple[list["str | _Switch | _Cycle"], int]


class _Parser:
    """Recursive descent; each method takes where to begin and gives what it read and its end."""

    def __init__(self, prompt: str, steps: int) -> None:
        self._prompt = prompt
        self._steps = steps
        self._closed = _closed(prompt)

    def parse(self) -> _Parts | None:
        """The whole prompt; None where a character has no place in the grammar."""
        parts, end = self._run(0, 0)
        while end < len(self._prompt):
            if self._prompt[end] not in "[]():":
                return None
            # A bracket that belongs to no pair is text, as long as it is not inside of one.
            parts.append(self._prompt[end])
            more, end = self._run(end + 1, 0)
            parts += more
        return parts

    def _run(self, start: int, depth: int) -> _Found:
        """Words and whole brackets, up to what is neither."""
        parts: list[str | _Switch | _Cycle] = []
        end = start
        while True:
            if match := _PLAIN.match(self._prompt, end):
                parts.append(match.group())
                end = match.end()
            elif found := self._bracket(end, depth + 1):
                parts += found[0]
                end = found[1]
            else:
                return parts, end

    def _bracket(self, start: int, depth: int) -> _Found | None:
        if start not in self._closed or depth > _DEEPEST:
            return None
        return self._round(start, depth) if self._is("(", start) else self._square(start, depth)

    def _round(self, start: int, depth: int) -> _Found | None:
        """`(words)` or `(words:weight)`: passed on, but what is inside may change."""
        parts, end = self._run(start + 1, depth)
        parts.insert(0, "(")
        if self._is(":", end):
            weight, end = self._run(end + 1, depth)
            parts += [":", *weight]
        return ([*parts, ")"], end + 1) if self._is(")", end) else None

    def _square(self, start: int, depth: int) -> _Found | None:
        first, end = self._run(start + 1, depth)
        if self._is("|", end):
            return self._cycle(first, end, depth)
        if self._is(":", end):
            return self._switch(first, end, depth)
        return (["[", *first, "]"], end + 1) if self._is("]", end) else None

    def _cycle(self, first: _Parts, end: int, depth: int) -> _Found | None:
        options = [first]
        while self._is("|", end):
            option, end = self._run(end + 1, depth)
            options.append(option)
        return ([_Cycle(options)], end + 1) if self._is("]", end) else None

    def _switch(self, first: _Parts, colon: int, depth: int) -> _Found | None:
        if match := _WHEN.match(self._prompt, colon):
            return [_Switch((), first, self._step(match[1]))], match.end()
        second, end = self._run(colon + 1, depth)
        if match := _WHEN.match(self._prompt, end):
            return [_Switch(first, second, self._step(match[1]))], match.end()
        return None

    def _step(self, when: str) -> int:
        step = float(when) * (self._steps if "." in when else 1)
        return int(max(0, min(step, self._steps)))

    def _is(self, character: str, at: int) -> bool:
        return self._prompt[at : at + 1] == character


def _closed(prompt: str) -> set[int]:
    """Where brackets open that are closed, with nothing but whole brackets between."""
    closed, opened = set(), []
    for match in _BRACKET.finditer(prompt):
        if match[1]:
            opened.append(match.start())
        elif match[2] and opened and _CLOSER[prompt[opened[-1]]] == match[2]:
            closed.add(opened.pop())
        elif match[2]:
            opened.clear()  # all of them are around one that belongs to no pair
    return closed
