"""The commands of `pleinair`, in one table: the dispatch, the help and the completions read it."""

import difflib
import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import PleinairError, SettingError, shown, to_install


@dataclass(frozen=True)
class Command:
    """One command: what it is for, and the functions `module:name` that run it and parse for it.

    extra: of the installation, which has the modules that it needs.
    """

    about: str
    runs: str
    parses: str
    extra: str = ""
    needs: tuple[str, ...] = ()

    def run(self, name: str, words: Sequence[str]) -> int:
        """Run it with the words behind its name; returns its exit code."""
        if not {"-h", "--help"} & set(words):
            self._check_extra(name)
        code: int = _function(self.runs, name)(words)
        return code

    def parser(self, name: str) -> Any:
        """Its argparse parser."""
        return _function(self.parses, name)()

    def _check_extra(self, name: str) -> None:
        for module in self.needs:
            if importlib.util.find_spec(module) is None:
                raise PleinairError(
                    f"pleinair {name} needs {module}, which is not installed; install it with: "
                    f"{to_install(self.extra)}"
                )


COMMANDS = {
    "paint": Command(
        "pictures from a prompt; the word itself may be left out",
        ".typed:command",
        ".arguments:parser",
    ),
    "batch": Command(
        "paint a file, a JSON object a picture; with Ray by many machines",
        "pleinair.serve.batch:main",
        "pleinair.serve.batch:parser",
    ),
    "models": Command("the known models, and which are here", ".models:models", ".models:parser"),
    "pull": Command("fetch a model by its name or hub id", ".pull:pull", ".pull:parser"),
    "convert": Command(
        "convert a checkpoint of your own",
        "pleinair.export.cli:main",
        "pleinair.export.cli:parser",
        "export",
        ("torch", "diffusers", "transformers"),
    ),
    "quantize": Command(
        "add 8-bit graphs to a converted model",
        "pleinair.export.quantize:main",
        "pleinair.export.quantize:parser",
        "int8",
        ("nncf",),
    ),
    "tune": Command(
        "find what paints a model fastest on this machine", ".tune:tune", ".tune:parser"
    ),
    "serve": Command(
        "pictures over HTTP: a page, and the APIs of OpenAI and webui",
        "pleinair.serve.cli:main",
        "pleinair.serve.settings:parser",
        "serve",
        ("fastapi", "mcp", "uvicorn"),
    ),
    "bench": Command(
        "measure speed and memory",
        "pleinair.bench.__main__:main",
        "pleinair.bench.__main__:parser",
    ),
    "doctor": Command(
        "what is wrong here, and what a bug report needs", ".doctor:doctor", ".doctor:parser"
    ),
    "completion": Command(
        "complete commands and options in bash, zsh or fish",
        ".completion:completion",
        ".completion:parser",
    ),
}


def run(words: Sequence[str]) -> int:
    """Run the command that the words begin with; without one they are about painting."""
    first = words[0] if words else ""
    if first in COMMANDS:
        return COMMANDS[first].run(first, words[1:])
    alone = first and (len(words) == 1 or words[1].startswith("-"))
    if alone and (near := difflib.get_close_matches(first, COMMANDS, 1, cutoff=0.8)):
        raise SettingError(
            f"{shown(first)!r} is no command; did you mean: pleinair {near[0]}? "
            f"To paint it: pleinair paint {shown(first)}"
        )
    return COMMANDS["paint"].run("paint", words)


def _function(name: str, command: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module, __package__), function)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise PleinairError(
            f"pleinair {command} is not part of this installation ({error.name} is missing); "
            "install pleinair anew"
        ) from error
    return found
