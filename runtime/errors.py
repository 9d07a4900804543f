"""What can go wrong, in words a user can act on.

Every error says what is wrong, where, and what to do. The command line prints the message as one
line and exits with code 2; a library user catches `PleinairError` or one of its kinds.
"""

import difflib
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_MOST = 2000
"""Characters of a message: what it repeats of somebody's file may be of any length."""


class PleinairError(Exception):
    """Base of every error that Pleinair raises for a mistake that its user can mend."""

    def __init__(self, message: object = "") -> None:
        self.message = message
        super().__init__(_cut(str(message)))

    def spelled(self, names: Mapping[str, str]) -> str:
        """What it says, with other names for the arguments of a call: see `Message`."""
        return _cut(spelled(self.message, names))


class Message:
    """A line that names arguments of a call: the command line says it with its flags instead.

    text: as `str.format` takes it; a name in braces is an argument's, a number one of `values`.

        Message("{num_inference_steps} is {0}; give 1 or more", 0)
    """

    def __init__(self, text: str, *values: object) -> None:
        self.text, self.values = text, values

    def __str__(self) -> str:
        return self.spelled({})

    def spelled(self, names: Mapping[str, str]) -> str:
        """The line; `names` gives other names to arguments, by their own."""
        return _Spelling(names).vformat(self.text, self.values, {})


class Argument(str):
    """The name of an argument, where it is one of a `Message`'s values."""


class _Spelling(string.Formatter):
    """Fields that are names stand for themselves, or for what `names` calls them."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        value = Argument(key) if isinstance(key, str) else args[key]
        if isinstance(value, Argument):
            return self._names.get(value, str(value))
        return spelled(value, self._names) if isinstance(value, Message | PleinairError) else value


def spelled(message: object, names: Mapping[str, str]) -> str:
    """A message of any kind as text, with other names for the arguments that it names."""
    if isinstance(message, Message | PleinairError):
        return message.spelled(names)
    return str(message)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean --steps?` for what stands near a name; nothing where nothing does."""
    near = difflib.get_close_matches(name[:80], list(known), 1, cutoff=0.7)
    return f"; did you mean {near[0]}?" if near else ""


def unknown(name: str, value: object, known: Iterable[str]) -> Message:
    """`profile 'quick' is unknown; choose from: exact, native`, of an argument's value."""
    text = "{0} {1!r} is unknown; choose from: {2}{3}"
    near = did_you_mean(str(value), known)
    return Message(text, Argument(name), shown(value), ", ".join(known), near)


def _cut(text: str) -> str:
    return text if len(text) <= _MOST else shown(text, _MOST)


def cut(text: str, most: int) -> str:
    """A text, with its middle left out where it is longer than so many letters."""
    if len(text) <= most:
        return text
    return f"{text[: most * 3 // 4]}…{text[-(most // 4) :]}"


def shown(value: object, most: int = 80) -> str:
    """A value that a message repeats, in one line, cut in the middle where it is long.

    What would steer a terminal is a question mark.
    """
    text = cut(value if isinstance(value, str) else repr(value), most)
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))


class BundleError(PleinairError):
    """A model folder, or a file in it, is missing, truncated, mismatched or of unknown layout."""


class AdapterError(PleinairError):
    """A LoRA or embedding file cannot be read, trusted, or fitted to the model."""


class EngineError(PleinairError):
    """An inference engine or device is not there, or refuses the graph."""


class PromptError(PleinairError):
    """A prompt, or a file of prompts, cannot be used."""


class SchedulerError(PleinairError):
    """A scheduler name, its configuration or its number of steps makes no sense."""


class SettingError(PleinairError, ValueError):
    """An argument is out of its range: size, steps, strength, guidance scale and the like."""


class SourceError(PleinairError):
    """A checkpoint to convert cannot be found, fetched, read or trusted."""


class ExportError(PleinairError):
    """A conversion failed its checks, or the folder that it or a download fills is not writable."""


def to_install(extra: str) -> str:
    """The command that adds an extra to this installation: from the checkout it came from.

    Pleinair is in no package index, so its name alone would not do.
    """
    import importlib.metadata  # slow to import, and asked for by few errors
    import json
    import urllib.request
    from pathlib import Path

    found = importlib.metadata.distribution("pleinair")
    url = json.loads(found.read_text("direct_url.json") or "{}").get("url", "")
    folder = urllib.request.url2pathname(url.removeprefix("file://"))
    if not url.startswith("file://"):
        folder = str(found.locate_file(""))  # of a checkout's own egg-info
    if not Path(folder, "pyproject.toml").is_file():
        return f'pip install "pleinair[{extra}]", from where Pleinair itself came from'
    return f'pip install "{folder.rstrip("/")}[{extra}]"'
