"""Charts: bars as long as their numbers, told apart by colour, and nothing outside the board."""

import numpy as np
from PIL import ImageColor

from pleinair.bench import chart
from pleinair.bench.chart import Bar, Panel

# Of Okabe and Ito's palette (2008): the parts of a bar in their order, and marks.
BLUE, ORANGE, GREEN, VERMILION = "#0072b2", "#e69f00", "#009e73", "#d55e00"


def _pixels(panels: list[Panel], colour: str) -> np.ndarray:
    dots = np.asarray(chart.draw(panels))
    return (dots == ImageColor.getrgb(colour)).all(axis=2)


def test_lengths_are_in_proportion() -> None:
    bars = [Bar("slow", {"denoise": 8.0}), Bar("fast", {"denoise": 2.0})]
    found = _pixels([Panel("Seconds", "s", bars)], BLUE)
    lengths = sorted({int(row.sum()) for row in found if row.sum() > 50})
    assert len(lengths) == 2
    assert abs(lengths[1] / lengths[0] - 4) < 0.05


def test_each_part_has_its_colour_and_a_mark_its_line() -> None:
    bars = [Bar("a", {"encode": 1.0, "denoise": 2.0, "decode": 3.0}, low=5.0, high=7.0)]
    panels = [Panel("Seconds", "s", bars), Panel("Rate", "GFLOP/s", bars, {"peak": 12.0})]
    for colour in (BLUE, ORANGE, GREEN, VERMILION):
        assert _pixels(panels, colour).any()


def test_long_labels_small_numbers_and_no_bars() -> None:
    board = chart.draw(
        [Panel("Seconds", "s", [Bar("x" * 300, {"a": 1e-4})]), Panel("none", "", [])]
    )
    empty = chart.draw([])
    assert board.width == empty.width
    assert empty.height > 0
