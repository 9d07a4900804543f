"""Prompts that are drawn: `__name__` from a file of lines, `{a|b|c}` from its options.

The syntax is that of dynamic-prompts: weights `{0.5::a|2::b}`, several options
`{2$$a|b|c}`, `{1-2$$ and $$a|b|c}`, and all of it inside of options and of files' lines.
"""

import logging
import random
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ..errors import PromptError, shown

log = logging.getLogger("pleinair")

_DEEPEST = 16
# Draws of one picture, and characters of a text: a file that calls others tenfold multiplies.
_MOST_DRAWS = 10_000
_LONGEST = 100_000

_WILDCARD = re.compile(r"__([\w.-]{1,100}?(?:/[\w.-]{1,100}?){0,8})__")
_COUNT = re.compile(r"\s*(?:(\d{1,4})|(\d{0,4})-(\d{0,4}))\s*\$\$(?:([^${}|]*)\$\$)?")
# Braces hold no choice where there is none between them: some programs emphasise words so.
_CHOICE = re.compile(r"\{[^{}|$]*(?:\||\$\$)[^{}]*\}")
_WEIGHT = re.compile(r"\s*(\d+\.?\d*|\.\d+)\s*::")


def tell_of_undrawn(prompt: str) -> None:
    """Say in one line that wildcards and choices are painted as text, where a prompt has them."""
    if match := _WILDCARD.search(prompt) or _CHOICE.search(prompt):
        log.warning(
            "%s is painted as text; --wildcards draws a line of a file for __name__, and one of "
            "{a|b}",
            shown(match[0]),
        )


def drawn(texts: Sequence[str], folder: str | Path, seed: int) -> list[str]:
    """Each text with its wildcards and choices drawn; the same seed draws the same.

    texts: such as prompt and negative prompt. Later ones go on drawing where the first stopped,
        so that `{a|b}` in both is two draws and not one.
    folder: `__name__` is a line of `name.txt` in it, `__place/name__` of `place/name.txt`. Blank
        lines and those that begin with # are none.
    seed: the picture's.
    A brace without its partner is text.
    Raises PromptError where a file is missing, empty or no text, and where lines call each other
    without end.
    """
    draw = _Draw(Path(folder), seed)
    return [draw.text(text, ()) for text in texts]


class _Draw:
    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._draws = 0
        # Of all that `random` offers, only random() of a seeded generator is promised to be the
        # same in every version of Python. A text as the seed tells 1 from -1.
        self._random = random.Random(str(seed)).random

    def text(self, text: str, inside: tuple[str, ...]) -> str:
        """`inside`: the wildcards and choices that this text came out of."""
        if len(inside) > _DEEPEST:
            raise PromptError(
                f"wildcards are nested deeper than {_DEEPEST}: {' in '.join(inside[:-4:-1])} …; "
                "does a file call itself?"
            )
        self._draws += 1
        if self._draws > _MOST_DRAWS or len(text) > _LONGEST:
            raise PromptError(
                f"wildcards draw more than {_MOST_DRAWS:,} times or {_LONGEST:,} characters for "
                "one picture; use fewer"
            )
        parts, start = [], 0
        partners = _partners(text)
        while start < len(text):
            if match := _WILDCARD.match(text, start):
                parts.append(self._wildcard(match[1], inside))
                start = match.end()
            elif end := partners.get(start):
                parts.append(self._choice(text[start + 1 : end], inside))
                start = end + 1
            else:
                parts.append(text[start])
                start += 1
        return "".join(parts)

    def _wildcard(self, name: str, inside: tuple[str, ...]) -> str:
        lines = self._lines(name)
        return self.text(lines[int(self._random() * len(lines))], (*inside, f"__{name}__"))

    def _choice(self, content: str, inside: tuple[str, ...]) -> str:
        count = _COUNT.match(content)
        options = _options(content[count.end() :] if count else content)
        alone = _WILDCARD.fullmatch(options[0].strip()) if len(options) == 1 else None
        if count and alone:
            options = self._lines(alone[1])  # several of one file, none of them twice
        weighted = [_weighted(option) for option in options]
        joiner = ", " if count is None or count[4] is None else count[4]
        number = self._number(count, len(options)) if count else 1
        chosen = [weighted.pop(self._index(weighted))[1] for _ in range(number)]
        return joiner.join(self.text(option, (*inside, "{}")) for option in chosen)

    def _number(self, count: re.Match[str], options: int) -> int:
        """How many of the options: `2$$`, `1-2$$`, `-2$$` from one on, `2-$$` up to all."""
        low = int(count[1] or count[2] or 1)
        high = int(count[1] or count[3] or options)
        low, high = sorted((min(low, options), min(high, options)))
        return low + int(self._random() * (high - low + 1))

    def _index(self, weighted: Sequence[tuple[float, str]]) -> int:
        """Which of the options, by their weights; where all weigh nothing, any."""
        total = sum(weight for weight, _ in weighted)
        point = self._random() * (total or len(weighted))
        for i, (weight, _) in enumerate(weighted):
            point -= weight if total else 1
            if point < 0:
                return i
        return len(weighted) - 1  # rounding

    def _lines(self, name: str) -> list[str]:
        path = self._folder / f"{name}.txt"
        # Prompts come from strangers: none of them may read a file outside of the folder.
        if ".." in PurePosixPath(name).parts:
            raise PromptError(f"__{name}__: wildcards stay inside their folder; leave out the ..")
        try:
            text = path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise PromptError(
                f"{path}: cannot be read: {error.strerror}; __{name}__ draws a line of it"
            ) from error
        except UnicodeDecodeError as error:
            raise PromptError(f"{path}: not UTF-8 at byte {error.start + 1}; save it so") from error
        lines = [line.strip() for line in text.splitlines()]
        lines = [line for line in lines if line and not line.startswith("#")]
        if not lines:
            raise PromptError(f"{path}: no line in it; write one choice a line")
        return lines


def _partners(text: str) -> dict[int, int]:
    """Where each brace opens that is closed -> where that is."""
    partners, opened = {}, []
    for i, character in enumerate(text):
        if character == "{":
            opened.append(i)
        elif character == "}" and opened:
            partners[opened.pop()] = i
    return partners


def _options(content: str) -> list[str]:
    """The options between bars; a bar inside of inner braces is theirs."""
    options, depth = [""], 0
    for character in content:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "|" and depth == 0:
            options.append("")
        else:
            options[-1] += character
    return options


def _weighted(option: str) -> tuple[float, str]:
    match = _WEIGHT.match(option)
    return (float(match[1]), option[match.end() :]) if match else (1.0, option)
