"""Sheets for comparing: pictures in labelled rows and columns."""

import unicodedata
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont

_MARGIN = 8
_INK = "black"
# For words that Pillow's own font has no letters for: what the systems come with.
_SYSTEM_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "NotoSans-Regular.ttf",
    "DejaVuSans.ttf",
    "Arial Unicode.ttf",
    "PingFang.ttc",
    "msyh.ttc",
    "arial.ttf",
)
_MOST_LINES = 6
# A code point that no font has a letter for: what is drawn there is the sign for a missing one.
_NO_LETTER = "\U0010ffff"


def sheet(
    rows: Sequence[Sequence[Image.Image]],
    columns: Sequence[str],
    row_labels: Sequence[str] = (),
    title: str = "",
) -> Image.Image:
    """Pictures, each row of them under the labels `columns` and behind its own in `row_labels`.

    Pictures keep their pixels; cells are as large as the largest picture, and as wide as a label
    needs. Labels are wrapped; letters that no font here has lose their accent, or stand as \\uXXXX.
    """
    width = max(picture.width for row in rows for picture in row)
    height = max(picture.height for row in rows for picture in row)
    size = min(28, max(14, width // 20))
    width = max(width, 8 * size)
    heads = [_wrapped(label, size, width) for label in columns]
    sides = [_wrapped(label, size, 10 * size) for label in row_labels]
    titled = [_wrapped(title, size, len(columns) * width)] if title else []
    left = _width(sides, size) + 2 * _MARGIN if sides else 0
    line = round(size * 1.35)
    title_height = len(titled[0]) * line + _MARGIN if titled else 0
    top = title_height + max(map(len, heads)) * line + 2 * _MARGIN
    height = max([height, *(len(side) * line for side in sides)])
    step = (width + _MARGIN, height + _MARGIN)
    board = Image.new("RGB", (left + step[0] * len(columns), top + step[1] * len(rows)), "white")
    draw = ImageDraw.Draw(board)
    for lines in titled:
        _write(draw, lines, size, board.width / 2, _MARGIN)
    for x, lines in enumerate(heads):
        _write(draw, lines, size, left + x * step[0] + width / 2, title_height + _MARGIN)
    for y, lines in enumerate(sides):
        middle = top + y * step[1] + (height - len(lines) * line) / 2
        _write(draw, lines, size, left / 2, middle)
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            spare = (width - picture.width) // 2
            board.paste(picture.convert("RGB"), (left + x * step[0] + spare, top + y * step[1]))
    return board


def placard(text: str, width: int, height: int) -> Image.Image:
    """Words on grey, in the place of a picture that is not shown."""
    board = Image.new("RGB", (width, height), "lightgray")
    size = min(28, max(8, width // 16))
    lines = _wrapped(text, size, width - 2)
    top = (height - len(lines) * round(size * 1.35)) / 2
    _write(ImageDraw.Draw(board), lines, size, width / 2, top)
    return board


def _write(draw: ImageDraw.ImageDraw, lines: Sequence[str], size: int, x: float, y: float) -> None:
    """Lines of text, each centred at x, from y down."""
    for i, text in enumerate(lines):
        position = (x, y + i * round(size * 1.35))
        draw.text(position, text, _INK, _font(text, size), anchor="ma")


def _width(labels: Sequence[Sequence[str]], size: int) -> int:
    return max(round(_font(line, size).getlength(line)) for label in labels for line in label)


def _wrapped(text: str, size: int, width: float) -> list[str]:
    """The text in lines that fit the width, broken at blanks or, if need be, inside a word."""
    text = _writable(text, size)
    font = _font(text, size)
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if font.getlength(joined) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES - 1], lines[_MOST_LINES - 1][:-2] + "..."]
    return lines


def _writable(text: str, size: int) -> str:
    """The text; letters that its font lacks without their accent, or as their code points."""
    font = _font(text, size)

    def writable(letter: str) -> str:
        plain = unicodedata.normalize("NFKD", letter)[0]
        coded = letter.encode("ascii", errors="backslashreplace").decode()
        return next((other for other in (letter, plain) if _has(font, other)), coded)

    return "".join(map(writable, text))


def _font(text: str, size: int) -> Font:
    """Pillow's own font, or the first of the system's that has all the letters, where one has."""
    default = ImageFont.load_default(size)
    assert isinstance(default, Font)  # with a size it is never the old bitmap font
    if all(_has(default, letter) for letter in text):
        return default
    for name in _SYSTEM_FONTS:
        try:
            font = ImageFont.truetype(name, size)
        except OSError:
            continue
        if all(_has(font, letter) for letter in text):
            return font
    return default


def _has(font: Font, letter: str) -> bool:
    if letter.isspace():
        return True
    drawn, missing = (font.getmask(sign) for sign in (letter, _NO_LETTER))
    return drawn.size != missing.size or bytes(drawn) != bytes(missing)
