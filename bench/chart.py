"""Bar charts drawn with Pillow, which the runtime has anyway."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageDraw, ImageFont

from pleinair.runtime.speed.spread import Spread

_WIDTH, _LABELS, _VALUES, _EDGE = 1400, 380, 170, 24  # pixels: all, left of bars, right of them
_ROW, _BAR, _TITLE, _LEGEND, _AXIS = 40, 24, 52, 34, 34
_TEXT, _HEADING = 18, 24
_INK, _GREY, _LINE = "#202020", "#606060", "#dddddd"
# Told apart by people who do not see all colours, too (Okabe and Ito 2008).
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")


@dataclass(frozen=True)
class Bar:
    """parts: name -> length, laid end to end. low, high: the range of the whole, where known."""

    label: str
    parts: Mapping[str, float]
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, label: str, parts: Mapping[str, float], whole: Spread | None) -> "Bar":
        return cls(label, parts, *((whole.low, whole.high) if whole else ()))

    @property
    def length(self) -> float:
        return sum(self.parts.values())


@dataclass(frozen=True)
class Panel:
    """Bars of one unit under a title; marks: name -> a value that a line is drawn at."""

    title: str
    unit: str
    bars: Sequence[Bar]
    marks: Mapping[str, float] = field(default_factory=dict)

    @property
    def parts(self) -> list[str]:
        return list(dict.fromkeys(name for bar in self.bars for name in bar.parts))

    @property
    def head(self) -> int:
        """Pixels above the bars: the marks' names have a line each, so that none hides another."""
        return _TITLE + max(_LEGEND, (_TEXT + 6) * len(self.marks))

    @property
    def height(self) -> int:
        return self.head + _ROW * len(self.bars) + _AXIS + _EDGE


def draw(panels: Sequence[Panel]) -> Image.Image:
    """The panels that have bars, one under the other."""
    shown = [panel for panel in panels if panel.bars]
    board = Image.new("RGB", (_WIDTH, sum(panel.height for panel in shown) + _EDGE), "white")
    pen, top = ImageDraw.Draw(board), _EDGE // 2
    for panel in shown:
        _draw_panel(pen, panel, top)
        top += panel.height
    return board


def _draw_panel(pen: ImageDraw.ImageDraw, panel: Panel, top: int) -> None:
    lengths = [max(bar.length, bar.high or 0.0) for bar in panel.bars]
    most = max([*lengths, *panel.marks.values()]) or 1.0
    scale = (_WIDTH - _LABELS - _VALUES) / most
    colours = dict(zip(panel.parts, _COLOURS * len(panel.parts), strict=False))
    pen.text((_EDGE, top), panel.title, _INK, ImageFont.load_default(_HEADING))
    _draw_legend(pen, colours, top + _TITLE)
    first = top + panel.head
    bottom = first + _ROW * len(panel.bars)
    _draw_axis(pen, most, scale, panel.unit, (first, bottom))
    for row, bar in enumerate(panel.bars):
        _draw_bar(pen, bar, colours, scale, first + row * _ROW)
    for line, (name, value) in enumerate(panel.marks.items()):
        x, named = _LABELS + value * scale, first - line * (_TEXT + 6)
        pen.line((x, named - _TEXT, x, bottom), _COLOURS[-1], 2)
        right = x > _WIDTH / 2
        place = (x - 6 if right else x + 6, named - 4)
        _write(pen, place, f"{name}: {value:,.3g}", "rb" if right else "lb", _COLOURS[-1])


def _draw_legend(pen: ImageDraw.ImageDraw, colours: Mapping[str, str], top: int) -> None:
    if len(colours) < 2:
        return
    x: float = _EDGE
    for name, colour in colours.items():
        pen.rectangle((x, top, x + 14, top + 14), colour)
        _write(pen, (x + 20, top + 7), name, "lm", _GREY)
        x += 44 + ImageFont.load_default(_TEXT).getlength(name)


def _draw_axis(
    pen: ImageDraw.ImageDraw, most: float, scale: float, unit: str, span: tuple[int, int]
) -> None:
    step = _step(most)
    for tick in range(int(most / step) + 1):
        x = _LABELS + tick * step * scale
        pen.line((x, span[0], x, span[1]), _LINE, 1)
        _write(pen, (x, span[1] + 6), f"{tick * step:,g}", "ma", _GREY)
    _write(pen, (_WIDTH - _EDGE, span[1] + 6), unit, "ra", _GREY)


def _draw_bar(
    pen: ImageDraw.ImageDraw, bar: Bar, colours: Mapping[str, str], scale: float, top: int
) -> None:
    middle, x = top + _ROW / 2, float(_LABELS)
    _write(pen, (_LABELS - 10, middle), _fitting(bar.label, _LABELS - 10 - _EDGE), "rm", _INK)
    for name, length in bar.parts.items():
        end = x + length * scale
        pen.rectangle((x, middle - _BAR / 2, max(x, end), middle + _BAR / 2), colours[name])
        x = end
    words = f"{bar.length:.3g}" if bar.length < 1000 else f"{bar.length:,.0f}"
    if bar.low is not None and bar.high is not None:
        low, high = (_LABELS + end * scale for end in (bar.low, bar.high))
        pen.line((low, middle, high, middle), _INK, 2)
        for end in (low, high):
            pen.line((end, middle - 5, end, middle + 5), _INK, 2)
        x = max(x, high)
    _write(pen, (x + 8, middle), words, "lm", _INK)


def _step(most: float) -> float:
    """1, 2 or 5 times a power of ten, such that there are four to ten of them."""
    power = 10.0 ** math.floor(math.log10(most / 4))
    return power * max(factor for factor in (1, 2, 5) if factor * power <= most / 4)


def _fitting(text: str, width: float) -> str:
    font = ImageFont.load_default(_TEXT)
    while font.getlength(text) > width:
        text = text.removesuffix("…")[:-1] + "…"
    return text


def _write(
    pen: ImageDraw.ImageDraw, at: tuple[float, float], text: str, anchor: str, ink: str
) -> None:
    pen.text(at, text, ink, ImageFont.load_default(_TEXT), anchor)
