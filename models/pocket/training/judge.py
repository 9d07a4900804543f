"""What is right in a picture: a classifier's reading of it, held against the scene asked for.

One thing is read from the whole picture. Of several things, each is read from a square cut out
around the place where scenes have it (`pictures.place`), so a pair is right only when both things
are, each on its own side.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from .metrics import Share
from .pictures import CENTRES
from .scenes import Scene
from .vocabulary import BACKGROUNDS, STYLES, SUBJECTS

#: Side of the square around a centre, in shares of the picture.
SQUARE = 0.52
#: What each head of a classifier tells apart.
HEADS: dict[str, list] = {
    "thing": list(SUBJECTS),
    "style": list(STYLES),
    "background": list(BACKGROUNDS),
    "number": [1, 2, 3],
}
GROUNDS = np.array([facts["rgb"] for facts in BACKGROUNDS.values()], np.float64)


@dataclass(frozen=True)
class Reading:
    """What a classifier says of n pictures.

    scores: head -> float (n, classes), higher is likelier; the heads and classes of `HEADS`.
    features: float (n, d), what the heads read from.
    """

    scores: dict[str, np.ndarray]
    features: np.ndarray

    def best(self, head: str, row: int, number: int = 1) -> list:
        """The likeliest classes of picture `row`, likeliest first."""
        order = np.argsort(-self.scores[head][row], kind="stable")
        return [HEADS[head][place] for place in order[:number]]


#: Reads uint8 (h, w, 3) pictures of any size.
Reader = Callable[[Sequence[np.ndarray]], Reading]


@dataclass(frozen=True)
class Verdict:
    """Whether a picture shows what its scene says; None where nothing was asked.

    top1, top5: each thing is the first, or among the first five, that the classifier names.
    style, background: by the classifier. ground: the background by the border's pixels alone.
    number: by the classifier.
    """

    top1: bool
    top5: bool
    style: bool | None
    background: bool
    ground: bool
    number: bool


def judge(
    scenes: Sequence[Scene], pictures: Sequence[np.ndarray], read: Reader
) -> tuple[list[Verdict], Reading]:
    """A verdict a picture, and the reading of the whole pictures."""
    whole = read(pictures)
    squares = [cut_out(p, len(s.things)) for s, p in zip(scenes, pictures, strict=True)]
    flat = [square for row in squares for square in row]
    parts, taken = read(flat) if flat else whole, 0
    verdicts = []
    for row, (scene, picture) in enumerate(zip(scenes, pictures, strict=True)):
        if len(scene.things) == 1:
            named = [whole.best("thing", row, 5)]
        else:
            named = [parts.best("thing", taken + place, 5) for place in range(len(scene.things))]
            taken += len(scene.things)
        asked = list(zip(scene.things, named, strict=True))
        verdicts.append(
            Verdict(
                top1=all(thing == names[0] for thing, names in asked),
                top5=all(thing in names for thing, names in asked),
                style=whole.best("style", row) == [scene.style],
                background=whole.best("background", row) == [scene.background],
                ground=ground(picture) == scene.background,
                number=whole.best("number", row) == [len(scene.things)],
            )
        )
    return verdicts, whole


def cut_out(picture: np.ndarray, things: int) -> list[np.ndarray]:
    """The square around each of several things; none of a single one."""
    if things == 1:
        return []
    return [square(picture, *centre, SQUARE) for centre in CENTRES[things]]


def square(picture: np.ndarray, x: float, y: float, side: float) -> np.ndarray:
    """The square of this centre and side, in shares of the picture, pushed inside it."""
    size = len(picture)
    pixels = round(side * size)
    left, top = (min(max(round(c * size - pixels / 2), 0), size - pixels) for c in (x, y))
    return picture[top : top + pixels, left : left + pixels]


def ground(picture: np.ndarray) -> str:
    """The named background nearest to the median colour of the picture's border."""
    width = max(1, len(picture) // 32)
    inner = np.zeros(picture.shape[:2], bool)
    inner[width:-width, width:-width] = True
    distances = np.abs(GROUNDS - np.median(picture[~inner], axis=0)).sum(1)
    return HEADS["background"][int(distances.argmin())]


def shares(verdicts: Iterable[Verdict]) -> dict[str, Share]:
    """Column -> how many verdicts have it right."""
    verdicts = list(verdicts)
    return {
        column.name: Share.of(getattr(verdict, column.name) for verdict in verdicts)
        for column in fields(Verdict)
    }
