"""A file of prompts, one a line."""

import codecs
from dataclasses import dataclass
from pathlib import Path

from ..errors import PromptError


@dataclass(frozen=True)
class PromptFile:
    """The prompts of a file, and its lines that are no text: (line number, what is wrong)."""

    prompts: list[str]
    bad: list[tuple[int, str]]


def read_prompts(path: Path) -> PromptFile:
    """Blank lines are left out; a byte order mark and any line ends are understood.

    Raises PromptError where the file cannot be read or holds no prompt.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PromptError(f"{path}: cannot be read: {error.strerror}; give a text file") from error
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        data = data.decode("utf-16", errors="replace").encode()
    prompts, bad = [], []
    for number, line in enumerate(data.removeprefix(codecs.BOM_UTF8).splitlines(), start=1):
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            bad.append((number, f"not UTF-8 at byte {error.start + 1}"))
            continue
        if "\0" in text:
            bad.append((number, "binary data"))
        elif text:
            prompts.append(text)
    if not prompts:
        raise PromptError(f"{path}: no prompt in it; write one a line, in UTF-8")
    return PromptFile(prompts, bad)
