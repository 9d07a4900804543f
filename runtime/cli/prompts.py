"""A file of prompts, one a line, with options of their own where a line has them."""

import argparse
import codecs
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..errors import Argument, Message, PromptError, SettingError, shown
from ..text import styles
from .arguments import CALL, flags, parser
from .parser import Parser

# What may differ from picture to picture. The rest chooses the model, the machine and the folder,
# once for the whole run.
PICTURE_OPTIONS = frozenset({*CALL, "n_samples", "n_iter", "style", "wildcards"})

STDIN = "-"
"""The name of a prompt file that stands for the standard input."""
_MOST = 64 << 20

_FIRST_OPTION = re.compile(r"(?:^|\s)--(?=[A-Za-z])")


@dataclass(frozen=True)
class PromptLine:
    """One line: where it stands, and the command line's options with its own put over them."""

    number: int
    options: argparse.Namespace


@dataclass(frozen=True)
class PromptFile:
    """The lines of a file, and those that cannot be used: (line number, what is wrong).

    More become bad when they are tried; path None is the command line alone, as line 0.
    """

    lines: list[PromptLine]
    bad: list[tuple[int, str]]
    path: Path | None = None


def read_prompts(path: Path, given: argparse.Namespace) -> PromptFile:
    """Read a file of prompts; `given` are the command line's options, which hold for every line.

    A line is a prompt and then, if it likes, options by the command line's own names:
    `a red apple --seed 7 --negative-prompt "two apples"`. Values of several words are quoted;
    backslashes in them are just backslashes. The prompt can also be given by `--prompt`.
    Blank lines and those that begin with # are left out; a byte order mark and any line ends are
    understood.
    Raises PromptError where the file cannot be read or holds no prompt.
    """
    reader = parser()
    lines, bad = [], []
    stdin = str(path) == STDIN
    data = _standard_input() if stdin else _content(path)
    path = Path("standard input") if stdin else path
    for number, raw in _numbered(data):
        try:
            text = _text(raw)
            if text and not text.startswith("#"):
                lines.append(PromptLine(number, _options(reader, text, given)))
        except PromptError as error:
            bad.append((number, error.spelled(flags())))
    if not lines:
        raise PromptError(
            f"{path}: no prompt in it; write one a line, in UTF-8"
            + "".join(f"; line {number}: {what}" for number, what in bad[:1])
        )
    return PromptFile(lines, bad, path)


def _content(path: Path) -> bytes:
    if path.exists() and not path.is_file():
        raise PromptError(f"{path}: not a regular file; give a text file, or - and a pipe")
    try:
        with path.open("rb") as file:
            return _bounded(file, path)
    except OSError as error:
        raise PromptError(f"{path}: cannot be read: {error.strerror}; give a text file") from error


def _standard_input() -> bytes:
    return _bounded(sys.stdin.buffer, "standard input")


def _bounded(file: BinaryIO, name: Path | str) -> bytes:
    data = file.read(_MOST + 1)
    if len(data) > _MOST:
        raise PromptError(f"{name}: more than {_MOST >> 20} MiB of prompts; give fewer at once")
    return data


def _numbered(data: bytes) -> Iterator[tuple[int, bytes]]:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        data = data.decode("utf-16", errors="replace").encode()
    yield from enumerate(data.removeprefix(codecs.BOM_UTF8).splitlines(), start=1)


def _text(raw: bytes) -> str:
    try:
        text = raw.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise PromptError(f"not UTF-8 at byte {error.start + 1}") from error
    if "\0" in text:
        raise PromptError("binary data")
    return text


def _options(reader: Parser, line: str, given: argparse.Namespace) -> argparse.Namespace:
    """The given options with those of a line over them."""
    found = _FIRST_OPTION.search(line)
    prompt = line[: found.start()].strip() if found else line
    parsed = _parsed(reader, _words(line[found.start() :]) if found else [], given)
    for name, value in vars(parsed).items():
        if name not in PICTURE_OPTIONS and value != getattr(given, name):
            raise PromptError(Message("{0} is for the whole run, not for a line", Argument(name)))
    if prompt and parsed.prompt:
        raise PromptError("two prompts, one before the options and one by --prompt")
    parsed.prompt = prompt or parsed.prompt
    if not parsed.prompt:
        raise PromptError("options, but no prompt")
    try:
        styles.apply(parsed.style or (), parsed.prompt)
    except SettingError as error:
        raise PromptError(error) from error
    return parsed


def _parsed(reader: Parser, words: list[str], given: argparse.Namespace) -> argparse.Namespace:
    for word in words:
        if word.startswith(("-h", "--help", "--version")):
            raise PromptError(f"{shown(word)} is no option of a line")
    # argparse sets its defaults only where the namespace has no value yet.
    parsed = argparse.Namespace(**{**vars(given), "prompt": None})
    try:
        _, left = reader.parse_known_args(words, parsed)
    except SettingError as error:
        raise PromptError(error) from error
    if left and left[0].startswith("-"):
        raise PromptError(reader.unknown(left[0]))
    if left:
        raise PromptError(f"{left[0]!r} belongs to no option; quote values of several words")
    return parsed


def _words(text: str) -> list[str]:
    """Split as a shell would, but for backslashes: prompts and Windows' paths have them."""
    splitter = shlex.shlex(text, posix=True, punctuation_chars=False)
    splitter.whitespace_split = True
    splitter.commenters = splitter.escape = ""
    try:
        return list(splitter)
    except ValueError as error:
        raise PromptError("a quote is never closed") from error
