"""Edges of a picture [Canny 1986], dot for dot those of OpenCV: what ControlNets were shown."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SettingError

Dots = NDArray[Any]

# The tangent of 22.5 degrees, in OpenCV's fixed point of 15 bits.
_SHIFT = 15
_TAN_22 = round(0.4142135623730950488 * (1 << _SHIFT))


def canny(picture: Dots, low: float = 100, high: float = 200) -> NDArray[np.uint8]:
    """What `cv2.Canny(picture, low, high)` gives: (height, width), 255 on an edge, else 0.

    picture: uint8 (height, width), or (height, width, channels), where at every dot the channel
        of the steepest gradient counts.
    low, high: bounds of a gradient's strength |dx| + |dy|, which Sobel's filter makes up to 2040:
        an edge begins above `high` and is followed as long as it stays above `low`.
    Raises SettingError for other arrays, and unless 0 <= low <= high.
    """
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or not picture.size:
        raise SettingError(
            f"canny takes uint8 (height, width) or (height, width, channels), "
            f"not {picture.dtype} {picture.shape}"
        )
    if not 0 <= low <= high < np.inf:
        raise SettingError(f"canny's thresholds are {low:g},{high:g}; give 0 <= LOW <= HIGH")
    x, y = _steepest(*_sobel(picture if picture.ndim == 3 else picture[..., None]))
    strength = np.abs(x) + np.abs(y)
    # OpenCV compares whole numbers with the bounds rounded down.
    ridge = (strength > int(low)) & _highest_across(strength, x, y)
    return np.where(_followed(ridge, strength > int(high)), 255, 0).astype(np.uint8)


def _sobel(picture: Dots) -> tuple[Dots, Dots]:
    """Gradients along x and y, int32; outside the picture its border repeats."""
    dots = np.pad(picture.astype(np.int32), ((1, 1), (1, 1), (0, 0)), mode="edge")
    down = dots[:-2] + 2 * dots[1:-1] + dots[2:]
    across = dots[:, :-2] + 2 * dots[:, 1:-1] + dots[:, 2:]
    return down[:, 2:] - down[:, :-2], across[2:] - across[:-2]


def _steepest(x: Dots, y: Dots) -> tuple[Dots, Dots]:
    """Of several channels' gradients the strongest, the first one of equals."""
    channel = np.argmax(np.abs(x) + np.abs(y), axis=2)[..., None]
    return np.take_along_axis(x, channel, 2)[..., 0], np.take_along_axis(y, channel, 2)[..., 0]


def _highest_across(strength: Dots, x: Dots, y: Dots) -> NDArray[np.bool_]:
    """Where no neighbour across the edge is stronger: edges become one dot wide.

    The gradient's direction is one of four: flat, steep, and the two diagonals between.
    """
    around = np.pad(strength, 1)

    def neighbour(down: int, right: int) -> Dots:
        rows, columns = strength.shape
        return around[1 + down : 1 + down + rows, 1 + right : 1 + right + columns]

    run, rise = np.abs(x), np.abs(y) << _SHIFT
    flat = rise < run * _TAN_22
    steep = rise > run * (_TAN_22 + (2 << _SHIFT))  # tan 67.5 = tan 22.5 + 2
    falling = (x ^ y) < 0
    # Of two equals along a row or column the first one stays; a diagonal keeps neither.
    along_row = (strength > neighbour(0, -1)) & (strength >= neighbour(0, 1))
    along_column = (strength > neighbour(-1, 0)) & (strength >= neighbour(1, 0))
    slash = (strength > neighbour(-1, 1)) & (strength > neighbour(1, -1))
    backslash = (strength > neighbour(-1, -1)) & (strength > neighbour(1, 1))
    diagonal = np.where(falling, slash, backslash)
    highest: NDArray[np.bool_] = np.where(flat, along_row, np.where(steep, along_column, diagonal))
    return highest


def _followed(ridge: NDArray[np.bool_], strong: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Hysteresis: of the ridges those that touch, by side or corner, a strong dot of theirs."""
    numbers = np.full(ridge.shape, -1)
    numbers[ridge] = np.arange(ridge.sum())
    groups = _groups(int(ridge.sum()), *_touching(numbers))
    begun = np.zeros(len(groups), bool)
    begun[groups[numbers[ridge & strong]]] = True
    edges = np.zeros_like(ridge)
    edges[ridge] = begun[groups]
    return edges


def _touching(numbers: Dots) -> tuple[Dots, Dots]:
    """The pairs of numbers that are neighbours; -1 is nobody."""
    right = numbers[:, :-1], numbers[:, 1:]
    below = numbers[:-1], numbers[1:]
    below_right = numbers[:-1, :-1], numbers[1:, 1:]
    below_left = numbers[:-1, 1:], numbers[1:, :-1]
    pairs = [
        (a[both], b[both])
        for a, b in (right, below, below_right, below_left)
        for both in [(a >= 0) & (b >= 0)]
    ]
    return np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs])


def _groups(count: int, first: Dots, second: Dots) -> Dots:
    """Connected components: for each of `count` members the lowest one of its group.

    Each round hangs every group under the lowest neighbouring one, so few rounds do, however long
    an edge winds.
    """
    lowest = np.arange(count)
    while True:
        one, other = lowest[first], lowest[second]
        apart = one != other
        if not apart.any():
            return lowest
        np.minimum.at(lowest, np.maximum(one, other)[apart], np.minimum(one, other)[apart])
        while (lowest != lowest[lowest]).any():
            lowest = lowest[lowest]
