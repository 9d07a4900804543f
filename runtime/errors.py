"""What can go wrong, in words a user can act on.

Every error says what is wrong, where, and what to do. The command line prints the message as one
line and exits with code 2; a library user catches `PleinairError` or one of its kinds.
"""

_MOST = 2000
"""Characters of a message: what it repeats of somebody's file may be of any length."""


class PleinairError(Exception):
    """Base of every error that Pleinair raises for a mistake that its user can mend."""

    def __init__(self, message: object = "") -> None:
        text = str(message)
        super().__init__(text if len(text) <= _MOST else shown(text, _MOST))


def shown(value: object, most: int = 80) -> str:
    """A value that a message repeats, in one line, cut in the middle where it is long."""
    text = value if isinstance(value, str) else repr(value)
    if len(text) > most:
        text = f"{text[: most * 3 // 4]}…{text[-(most // 4) :]}"
    return " ".join(text.split())


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
