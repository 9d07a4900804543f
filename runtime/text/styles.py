"""Style presets: a word that stands for a well-tried prompt around one's own."""

import difflib
import functools
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import SettingError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FILE = Path(__file__).with_name("styles.toml")


@dataclass(frozen=True)
class Style:
    """A preset.

    kind: "image type", "style", "aesthetic" or "artist".
    prompt: a template, in which {prompt} is the user's text.
    negative: what the look has to be without; added to the user's negative prompt. May be "".
    """

    name: str
    kind: str
    prompt: str
    negative: str = ""


@functools.cache
def styles() -> dict[str, Style]:
    """All presets, name -> style, in the data file's order."""
    entries = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return {name: Style(name, **entry) for name, entry in entries.items()}


def apply(names: Sequence[str], prompt: str, negative: str = "") -> tuple[str, str]:
    """Prompt and negative prompt in the named styles, each put around what the last one made.

    Case, blanks, hyphens and underscores of a name do not matter: "Oil Painting" is oil-painting.
    Raises SettingError for an unknown name, with those that look like it.
    """
    known = styles()
    for name in names:
        style = known.get(_key(name))
        if style is None:
            raise SettingError(f"style {name!r} is unknown; {_hint(name, list(known))}")
        prompt = style.prompt.replace("{prompt}", prompt)
        negative = ", ".join(text for text in (negative, style.negative) if text)
    return prompt, negative


def _key(name: str) -> str:
    return re.sub(r"[\s_-]+", "-", name.strip().lower())


def _hint(name: str, known: list[str]) -> str:
    words = [style for style in known if _key(name) in style]
    close = dict.fromkeys([*words, *difflib.get_close_matches(_key(name), known, n=5)])
    return f"did you mean: {', '.join(list(close)[:5])}" if close else f"one of: {', '.join(known)}"
