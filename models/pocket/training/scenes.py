"""What a picture shows, and which scenes training never sees."""

import zlib
from dataclasses import dataclass
from random import Random

from .vocabulary import BACKGROUNDS, STYLES, SUBJECTS

#: One scene in so many is held out of training, for each kind.
HELD_OUT = {"single": 16, "pair": 8, "count": 8}
#: White is what a caption means that names no background, so it is drawn more often.
WHITE_SHARE = 0.3


@dataclass(frozen=True)
class Scene:
    """Things from left to right, all in one style, on a plain background.

    One thing; two different ones (a pair); or two or three of the same (a count).
    """

    things: tuple[str, ...]
    style: str
    background: str

    @property
    def kind(self) -> str:
        if len(self.things) == 1:
            return "single"
        return "pair" if len(set(self.things)) > 1 else "count"

    @property
    def held_out(self) -> bool:
        """Whether training must not see this scene.

        Singles are held out as thing x style x background, pairs as two things in either order
        whatever the style and background, counts as number x thing x style. The choice hangs on
        the words alone (their CRC-32), so it is the same everywhere and needs no list.
        """
        key = {
            "single": (*self.things, self.style, self.background),
            "pair": tuple(sorted(self.things)),
            "count": (*self.things, self.style),
        }[self.kind]
        return zlib.crc32("|".join(key).encode()) % HELD_OUT[self.kind] == 0


def draw_scene(random: Random, kind: str) -> Scene:
    """A scene of this kind, held out or not."""
    subjects = list(SUBJECTS)
    if kind == "pair":
        things = tuple(random.sample(subjects, 2))
    else:
        copies = 1 if kind == "single" else random.choice((2, 3))
        things = (random.choice(subjects),) * copies
    white = random.random() < WHITE_SHARE
    background = "white" if white else random.choice(list(BACKGROUNDS))
    return Scene(things, random.choice(list(STYLES)), background)


def draw_seen(random: Random, kind: str) -> Scene:
    """A scene of this kind that training may see."""
    while (scene := draw_scene(random, kind)).held_out:
        pass
    return scene


def draw_held_out(random: Random, kind: str) -> Scene:
    """A scene of this kind that training never sees."""
    while not (scene := draw_scene(random, kind)).held_out:
        pass
    return scene
