"""The bundled model is whole, small, and paints what it is asked for."""

from pathlib import Path

import numpy as np
import pytest

from pleinair.runtime import StableDiffusionPipeline, catalog
from pleinair.runtime.bundle import Bundle

POCKET = Path(__file__).parents[2] / "models" / "pocket"
COLOURS = {
    "white": (255, 255, 255),
    "black": (20, 20, 20),
    "red": (229, 57, 53),
    "yellow": (253, 216, 53),
    "green": (67, 160, 71),
    "blue": (30, 136, 229),
    "purple": (142, 36, 170),
    "pink": (244, 143, 177),
}


@pytest.fixture(scope="module")
def pipe() -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(POCKET)


def nearest(pixel: np.ndarray) -> str:
    """The name of the background colour that a pixel comes closest to."""
    return min(COLOURS, key=lambda name: float(np.abs(pixel - np.array(COLOURS[name])).sum()))


def corners(picture: np.ndarray) -> np.ndarray:
    parts = [picture[:5, :5], picture[:5, -5:], picture[-5:, :5], picture[-5:, -5:]]
    return np.median(np.concatenate([part.reshape(-1, 3) for part in parts]), axis=0)


def middle(picture: np.ndarray) -> np.ndarray:
    return np.median(picture[24:40, 24:40].reshape(-1, 3), axis=0)


def test_is_whole_and_small() -> None:
    bundle = Bundle.open(POCKET)
    bundle.verify()
    assert sum(facts["bytes"] for facts in bundle.manifest["files"].values()) < 12e6


def test_is_what_a_fresh_machine_paints_with() -> None:
    assert catalog.find("pocket").resolve() == POCKET.resolve()
    assert catalog.bundled().resolve() == POCKET.resolve()


@pytest.mark.parametrize("thing", ["red apple", "star", "robot"])
def test_backgrounds_are_the_colour_asked_for(pipe: StableDiffusionPipeline, thing: str) -> None:
    prompts = [f"a {thing} on a {colour} background" for colour in COLOURS]
    pictures = pipe(prompts, seed=1).images
    found = [nearest(corners(np.asarray(picture, float))) for picture in pictures]
    right = sum(colour == name for colour, name in zip(found, COLOURS, strict=True))
    assert right >= len(COLOURS) - 1, found


@pytest.mark.parametrize(
    ("thing", "colour"),
    [
        ("red apple", "red"),
        ("red heart", "red"),
        ("blue heart", "blue"),
        ("star", "yellow"),
        ("tomato", "red"),
        ("banana", "yellow"),
    ],
)
def test_things_are_their_colour(pipe: StableDiffusionPipeline, thing: str, colour: str) -> None:
    pictures = pipe(f"a {thing}", seed=10, num_images_per_prompt=3).images
    found = [nearest(middle(np.asarray(picture, float))) for picture in pictures]
    assert found.count(colour) >= 2, found


def test_the_prompt_matters_more_than_the_seed(pipe: StableDiffusionPipeline) -> None:
    things = ["red heart", "panda", "rocket", "evergreen tree"]
    first, second = (
        [
            np.asarray(image, float)
            for image in pipe([f"a {t}, noto style" for t in things], seed=s).images
        ]
        for s in (20, 40)
    )
    for i, picture in enumerate(first):
        distances = [float(np.abs(picture - other).mean()) for other in second]
        assert int(np.argmin(distances)) == i, things[i]
