"""Scenes drawn with the real icons: what the parts learn from and are judged against."""

from functools import lru_cache
from random import Random

import numpy as np
import torch
from numpy.random import Generator
from PIL import Image

from . import WORK
from .scenes import Scene, draw_seen
from .vocabulary import BACKGROUNDS, STYLES, SUBJECTS

SIZE = 64
#: Number of things -> centre x and y of each, in shares of the picture.
CENTRES = {
    1: ((0.5, 0.5),),
    2: ((0.26, 0.5), (0.74, 0.5)),
    3: ((0.5, 0.265), (0.26, 0.735), (0.74, 0.735)),
}


class Icons:
    """The icons of `work/icons.npz`: the subjects in each style, and others."""

    def __init__(self) -> None:
        with np.load(WORK / "icons.npz") as icons:
            self.subjects, self.others = icons["subjects"], icons["others"]
        self.rows = {thing: row for row, thing in enumerate(SUBJECTS)}
        self.columns = {style: column for column, style in enumerate(STYLES)}
        self.get = lru_cache(maxsize=None)(self._get)

    def _get(self, thing: str, style: str) -> Image.Image:
        return as_image(self.subjects[self.rows[thing], self.columns[style]])


def as_image(premultiplied: np.ndarray) -> Image.Image:
    return Image.frombuffer("RGBa", premultiplied.shape[1::-1], premultiplied.tobytes())


def place(things: int, random: Generator) -> list[tuple[float, float, float]]:
    """Centre x, centre y and side of each thing, in shares of the picture."""
    side = random.uniform(0.82, 0.88) if things == 1 else random.uniform(0.45, 0.47)
    wobble = 0.015 if things == 1 else 0.008
    x, y = random.uniform(-wobble, wobble, 2)
    return [(left + x, top + y, side) for left, top in CENTRES[things]]


def render(
    scene: Scene,
    icons: Icons,
    random: Generator,
    size: int = SIZE,
    rgb: np.ndarray | None = None,
    places: list[tuple[float, float, float]] | None = None,
) -> np.ndarray:
    """The scene drawn, uint8 (size, size, 3); `rgb` replaces the colour of the background."""
    colour = BACKGROUNDS[scene.background]["rgb"] if rgb is None else rgb
    places = place(len(scene.things), random) if places is None else places
    drawn = [icons.get(thing, scene.style) for thing in scene.things]
    return lay(drawn, places, np.asarray(colour, np.float32), size)


def lay(
    icons: list[Image.Image],
    places: list[tuple[float, float, float]],
    colour: np.ndarray,
    size: int,
) -> np.ndarray:
    """Premultiplied icons on a plain ground, uint8 (size, size, 3)."""
    picture = np.broadcast_to(colour, (size, size, 3)).copy()
    for icon, (x, y, side) in zip(icons, places, strict=True):
        pixels = max(1, round(side * size))
        # Premultiplied channels shrink without drawing in the colour of nothing.
        small = np.asarray(icon.resize((pixels, pixels), Image.Resampling.LANCZOS), np.float32)
        left, top = (int(np.clip(round(c * size - pixels / 2), 0, size - pixels)) for c in (x, y))
        spot = picture[top : top + pixels, left : left + pixels]
        spot *= 1.0 - small[..., 3:] / 255.0
        spot += np.minimum(small[..., :3], small[..., 3:])  # LANCZOS overshoots
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def as_tensor(pictures: list[np.ndarray]) -> torch.Tensor:
    """uint8 (H, W, 3) pictures as float32 (B, 3, H, W) in -1..1."""
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    return pixels.float() / 127.5 - 1.0


class Renders:
    """Endless batches of pictures for the autoencoder: seen scenes, and some strangers.

    Some icons are none of the subjects, and some grounds have a colour that captions do not name:
    the autoencoder should carry more than the captions can say.
    """

    KINDS = ("single", "single", "single", "pair", "count")
    STRANGERS = 0.1
    FREE_COLOURS = 0.1

    def __init__(self) -> None:
        self.icons = Icons()

    def seed(self, seed: int) -> None:
        self.words, self.numbers = Random(seed), np.random.default_rng(seed)

    def batch(self, size: int) -> torch.Tensor:
        """float32 (size, 3, SIZE, SIZE) in -1..1."""
        return as_tensor([self._draw() for _ in range(size)])

    def _draw(self) -> np.ndarray:
        free = self.numbers.uniform(0, 255, 3) if self.words.random() < self.FREE_COLOURS else None
        scene = draw_seen(self.words, self.words.choice(self.KINDS))
        if self.words.random() >= self.STRANGERS:
            return render(scene, self.icons, self.numbers, rgb=free)
        icon = as_image(self.icons.others[self.numbers.integers(len(self.icons.others))])
        colour = BACKGROUNDS[scene.background]["rgb"] if free is None else free
        return lay([icon], place(1, self.numbers), np.asarray(colour, np.float32), SIZE)
