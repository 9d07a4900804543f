"""A file of pictures to paint: on each line a JSON object, in the terms of a call."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from pleinair.runtime.errors import PromptError, SettingError, shown
from pleinair.runtime.images import reading as pictures
from pleinair.runtime.images.condition import split

from .asked import Asked, Weighted
from .bounds import PICTURES

_MOST = 1 << 30

_AROUND = frozenset({"model", "profile", "loras", "controlnets", "seed"})
"""What a line may say beside a call's arguments."""


@dataclass(frozen=True)
class Line:
    """One picture.

    number: of its line, from 1. cell: of the settings that are compared; None where none are.
    """

    number: int
    asked: Asked
    cell: int | None = None

    @property
    def file(self) -> str:
        """The name of its picture's file."""
        cell = "" if self.cell is None else f"-{self.cell:02}"
        return f"{self.number:05}{cell}.png"

    @property
    def setup(self) -> tuple[str, ...]:
        """What is compiled anew for it; lines of one setup are painted one after the other."""
        asked = self.asked
        size = (asked.arguments.get(side) for side in ("width", "height"))
        around = (asked.model, asked.profile, asked.loras, asked.controlnets)
        return tuple(map(str, (*around, *size)))


@dataclass(frozen=True)
class Lines:
    """Those that can be used, and what is wrong with the others, by their numbers."""

    lines: Sequence[Line]
    bad: Mapping[int, str]


def read(path: Path, seed: int, cells: Sequence[Mapping[str, Any]] = ()) -> Lines:
    """The lines of a file; empty ones are left out.

    seed: a line without one is painted from `seed` and its place in the file, so that it is the
        same picture whoever paints it, and whenever.
    cells: arguments that each line is painted with in turn.
    Raises PromptError where the file cannot be read or holds no line.
    """
    lines: list[Line] = []
    bad: dict[int, str] = {}
    for number, text in _numbered(path):
        try:
            asked = _asked(text, path.parent, seed + number - 1)
        except PromptError as error:
            bad[number] = str(error)
        else:
            lines += _cells(Line(number, asked), cells)
    if not lines and not bad:
        raise PromptError(f'{path}: empty; write a line a picture, as {{"prompt": "a red apple"}}')
    return Lines(lines, bad)


def _cells(line: Line, cells: Sequence[Mapping[str, Any]]) -> Iterator[Line]:
    if not cells:
        yield line
    for i, cell in enumerate(cells):
        arguments = {**line.asked.arguments, **cell}
        around = {
            name: arguments.pop(name, getattr(line.asked, name)) for name in ("seed", "profile")
        }
        yield replace(line, asked=replace(line.asked, arguments=arguments, **around), cell=i)


def _numbered(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        if path.stat().st_size > _MOST:
            raise PromptError(f"{path}: more than {_MOST >> 20} MiB; split it into several files")
        data = path.read_bytes()
    except OSError as error:
        raise PromptError(f"{path}: cannot be read: {error.strerror}; give a text file") from error
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        if line.strip():
            yield number, line


def _asked(text: bytes, folder: Path, seed: int) -> Asked:
    try:
        values = msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise PromptError(f"not JSON: {error}") from error
    if not isinstance(values, dict) or not isinstance(values.get("prompt"), str):
        raise PromptError('no JSON object with a "prompt"')
    if values.get("num_images_per_prompt", 1) != 1:
        raise PromptError("num_images_per_prompt: a line is one picture; write it several times")
    arguments = {name: value for name, value in values.items() if name not in _AROUND}
    if arguments.get("variation_strength") and not _is_number(arguments.get("variation_seed")):
        raise PromptError("variation_strength wants a variation_seed beside it, of 0 or more")
    for name in PICTURES:
        if name in arguments:
            arguments[name] = _picture(name, arguments[name], folder)
    return Asked(
        model=_name(values, "model"),
        profile=_name(values, "profile"),
        loras=_weighted(values, "loras"),
        controlnets=_weighted(values, "controlnets"),
        arguments=arguments,
        seed=_seed(values, seed),
    )


def _name(values: Mapping[str, Any], key: str) -> str | None:
    value = values.get(key)
    if value is not None and not isinstance(value, str):
        raise PromptError(f"{key} is {shown(value)}; give a name")
    return value


def _weighted(values: Mapping[str, Any], key: str) -> tuple[Weighted, ...]:
    given = values.get(key) or {}
    if not isinstance(given, dict) or not all(_is_number(value) for value in given.values()):
        raise PromptError(f'{key} is {shown(given)}; give names with weights, as {{"ink": 0.8}}')
    return tuple((name, float(weight)) for name, weight in given.items())


def _seed(values: Mapping[str, Any], usual: int) -> int:
    seed = values.get("seed")
    if seed is None:
        return usual
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise PromptError(f"seed is {shown(seed)}; give a whole number from 0, or none")
    return seed


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _picture(name: str, given: Any, folder: Path) -> Any:
    """The picture in a file that a line names: who paints it may be another machine."""
    if isinstance(given, list):
        return [_picture(name, one, folder) for one in given]
    if name == "mask_image" and given == "alpha":
        return given
    if not isinstance(given, str):
        raise PromptError(f"{name} is {shown(given)}; give a picture's file")
    if split(given)[1]:
        raise PromptError(f"{name} is {shown(given)}; give the picture of the edges")
    try:
        return pictures.read(folder / given, name)
    except SettingError as error:
        raise PromptError(error) from error
