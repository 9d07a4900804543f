"""argparse, with mistakes in one line, and what was probably meant."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from ..errors import SettingError, did_you_mean, shown


class Parser(argparse.ArgumentParser):
    """A command's options. Raises SettingError for what cannot be read, naming the option."""

    def __init__(self, prog: str, **about: Any) -> None:
        about.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(prog=prog, allow_abbrev=False, exit_on_error=False, **about)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        options, left = self.parse_known_args(args, namespace)
        if left:
            raise self.unknown(left[0])
        return options

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        for word in args or ():
            if "\0" in word:  # which no path may have
                raise SettingError(f"{shown(word)!r} holds a null byte; leave it out")
            if word.startswith("--") and word.endswith("=--"):  # argparse takes the value away
                raise SettingError(f"{shown(word[:-3])} is '--', which is no value")
        try:
            return super().parse_known_args(args, namespace)
        except argparse.ArgumentError as error:
            flag, _, _ = (error.argument_name or "").partition("/")
            ours = isinstance(error.__context__, argparse.ArgumentTypeError)
            colon = ":" if flag and not ours else ""
            raise SettingError(f"{flag}{colon} {error.message}".strip()) from error

    def given(self, words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        """The options that stand in the words, by their names; and what is left of the words."""
        options, left = self.parse_known_args(words, _Typed())
        return vars(options), left

    def defaults(self) -> dict[str, Any]:
        """What every option is where nobody says anything."""
        return {
            action.dest: action.default
            for action in reversed(self._actions)  # of several that set one thing, the first's
            if action.default is not argparse.SUPPRESS
        }

    def options(self) -> Iterator[argparse.Action]:
        """All options that set something, in the order of the help."""
        return (one for one in self._actions if one.dest not in ("help", "version"))

    def flags(self) -> Mapping[str, argparse.Action]:
        """Every way to type an option -> that option."""
        return {flag: action for action in self._actions for flag in action.option_strings}

    def unknown(self, word: str) -> SettingError:
        """The error for a word that nothing takes."""
        flag = word.partition("=")[0]
        if not flag.startswith("-"):
            return SettingError(
                f"{shown(word)!r} is one word too many; quote what belongs together, and see: "
                f"{self.prog} --help"
            )
        near = did_you_mean(flag, self.flags())
        return SettingError(f"{shown(flag)} is no option of {self.prog}{near or self._see()}")

    def error(self, message: str) -> NoReturn:
        raise SettingError(f"{shown(message, 200)}{self._see()}")

    def _see(self) -> str:
        return f"; see: {self.prog} --help"


class _Typed(argparse.Namespace):
    """Has every option already, as None: argparse puts no default into it."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("_"):
            raise AttributeError(name)


def whole_number(text: str) -> int:
    """An option's value as an int."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"is {shown(text)!r}; give a whole number") from None


def number(text: str) -> float:
    """An option's value as a float."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"is {shown(text)!r}; give a number") from None
