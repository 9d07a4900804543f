"""Live previews: the picture as it is painted, in a file or in the terminal."""

import argparse
import base64
import contextlib
import io
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from rich.color import Color
from rich.console import Console, ConsoleOptions
from rich.segment import ControlType, Segment
from rich.style import Style

from ..errors import SettingError
from ..files import replacing

TERMINAL = "terminal"

_MARK = "Pleinair preview"
# A picture in a terminal: at most so many columns, and so many lines left to the rest.
_COLUMNS, _LINES_LEFT = 48, 6
# What is sent to terminals that show real pictures, at 2 a second.
_SENT = (256, 256)
_KITTY_ID = 5072
_KITTY_CHUNK = 4096


class Preview(Protocol):
    """Somewhere to look: `show` replaces the picture there, `clear` takes it away."""

    def show(self, picture: Image.Image) -> None: ...

    def clear(self) -> None: ...


def preview_of(options: argparse.Namespace) -> Preview | None:
    """What the options ask for; SettingError where it cannot be."""
    if options.preview_every < 1:
        raise SettingError(f"--preview-every is {options.preview_every}; give 1 or more")
    if options.preview is None:
        return None
    if options.preview == TERMINAL:
        terminal = PreviewTerminal(Console(stderr=True), os.environ)
        return terminal if terminal.shows else None
    return PreviewFile(Path(options.preview))


def looking(preview: Preview, every: int) -> Callable[..., None]:
    """A `callback_on_step_end` that shows each `every`th step."""

    def look(pipe: Any, step: int, timestep: Any, shown: Mapping[str, Any]) -> None:
        if (step + 1) % every == 0:
            preview.show(pipe.preview(shown["pred_original_sample"]))

    return look


class PreviewFile:
    """A PNG that is replaced as a whole, so that a viewer never sees half of it."""

    def __init__(self, path: Path) -> None:
        """Raises SettingError where the file is something else, or cannot be there."""
        self._path = path
        if path.suffix.lower() != ".png":
            raise SettingError(f"--preview {path}: give a name that ends in .png, or {TERMINAL}")
        if path.exists() and not _is_preview(path):
            raise SettingError(f"{path}: exists already and is no preview; choose another name")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingError(f"{path}: cannot be written: {error.strerror}") from error

    def show(self, picture: Image.Image) -> None:
        info = PngInfo()
        info.add_text("Software", _MARK)
        # A full disk, or a viewer that holds the file: no reason to stop painting.
        with contextlib.suppress(OSError), replacing(self._path) as part:
            picture.save(part, format="PNG", pnginfo=info, compress_level=1)

    def clear(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


class PreviewTerminal:
    """A picture above the progress bars: a renderable of rich.

    By the graphics protocols of kitty and iTerm2 where the terminal is known for one, else in
    coloured half blocks.

    shows: whether this console can show pictures at all; a pipe cannot.
    """

    def __init__(self, console: Console, environment: Mapping[str, str]) -> None:
        colours = console.color_system in ("truecolor", "256")
        self.shows = console.is_terminal and colours and not console.legacy_windows
        self.graphics = _graphics(environment) if self.shows else None
        self._picture: Image.Image | None = None
        self._encoded = ""

    def show(self, picture: Image.Image) -> None:
        self._picture = picture.convert("RGB")
        self._encoded = _encoded(self._picture) if self.graphics else ""

    def clear(self) -> None:
        self._picture = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        if self._picture is None:
            if self.graphics == "kitty":
                yield _control(f"\x1b_Ga=d,d=I,i={_KITTY_ID},q=2\x1b\\")
            return
        columns, rows = _cells(self._picture.size, options.max_width, console.height)
        if self.graphics is None:
            yield from _half_blocks(self._picture, columns, rows)
            return
        # The lines first: there must be room before something is drawn upwards from the last.
        for _ in range(rows - 1):
            yield Segment.line()
        up = f"\x1b[{rows - 1}A" if rows > 1 else ""
        draw = _kitty if self.graphics == "kitty" else _iterm2
        yield Segment(" ")
        yield _control(f"\x1b7{up}\r{draw(self._encoded, columns, rows)}\x1b8")
        yield Segment.line()


def _is_preview(path: Path) -> bool:
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            return bool(picture.info.get("Software") == _MARK)
    except (OSError, ValueError, SyntaxError):
        return False


def _graphics(environment: Mapping[str, str]) -> str | None:
    """The protocol that a terminal is known for; a multiplexer in between swallows them all."""
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if "TMUX" in environment or term.startswith(("screen", "tmux")):
        return None
    if "KITTY_WINDOW_ID" in environment or term in ("xterm-kitty", "xterm-ghostty"):
        return "kitty"
    known = program in ("iTerm.app", "WezTerm", "mintty")
    return "iterm2" if known or environment.get("LC_TERMINAL") == "iTerm2" else None


def _cells(size: tuple[int, int], width: int, height: int) -> tuple[int, int]:
    """Columns and rows for a picture; a cell is twice as high as wide."""
    most = max(2, min(width - 1, _COLUMNS)), max(2, height - _LINES_LEFT)
    scale = min(most[0] / size[0], 2 * most[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale / 2))


def _half_blocks(picture: Image.Image, columns: int, rows: int) -> Iterator[Segment]:
    """Two dots a cell: the upper is the letter's colour, the lower its background's."""
    dots = np.asarray(picture.resize((columns, 2 * rows), Image.Resampling.BOX)).tolist()
    for above, below in zip(dots[::2], dots[1::2], strict=True):
        for upper, lower in zip(above, below, strict=True):
            yield Segment("▀", Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower)))
        yield Segment.line()


def _encoded(picture: Image.Image) -> str:
    small, buffer = picture.copy(), io.BytesIO()
    small.thumbnail(_SENT)
    small.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _kitty(encoded: str, columns: int, rows: int) -> str:
    """kitty's terminal graphics protocol: one picture under one number, sent in chunks."""
    chunks = [encoded[i : i + _KITTY_CHUNK] for i in range(0, len(encoded), _KITTY_CHUNK)]
    keys = f"a=T,f=100,q=2,C=1,i={_KITTY_ID},p=1,c={columns},r={rows},"
    more = [1] * (len(chunks) - 1) + [0]
    sent = zip([keys, *[""] * (len(chunks) - 1)], more, chunks, strict=True)
    return "".join(f"\x1b_G{first}m={goes_on};{chunk}\x1b\\" for first, goes_on, chunk in sent)


def _iterm2(encoded: str, columns: int, rows: int) -> str:
    """iTerm2's inline images."""
    return f"\x1b]1337;File=inline=1;width={columns};height={rows}:{encoded}\x07"


def _control(sequence: str) -> Segment:
    """A sequence that takes no room; rich leaves it out where there is no terminal.

    That it is a control is all that rich asks, of which kind only old Windows consoles do.
    """
    return Segment(sequence, None, [(ControlType.HOME,)])
