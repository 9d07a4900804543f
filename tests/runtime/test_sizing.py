"""Sizes far from the model's own: pictures are scaled to it, and what is asked for is remarked."""

import logging
import math
from typing import Any

import pytest
from PIL import Image

from fakes import model_folder, opened
from pleinair.runtime.images import sizing

TRAINED = 64  # of fakes' model


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return opened(model_folder(tmp_path_factory.mktemp("sizing") / "tree"))


def planned(pipe: Any, caplog: pytest.LogCaptureFixture, **arguments: Any) -> tuple[Any, str]:
    """Width and height, and what is said of them."""
    with caplog.at_level(logging.WARNING, "pleinair"):
        caplog.clear()
        settings = pipe.plan("boat", seed=1, num_inference_steps=4, **arguments).settings
    return (settings.width, settings.height), "\n".join(caplog.messages)


@pytest.mark.parametrize(
    ("picture", "size"),
    [
        ((4000, 3000), (72, 56)),
        ((3000, 4000), (56, 72)),
        ((200, 200), (64, 64)),
        ((640, 64), (200, 24)),
    ],
)
def test_a_large_picture_is_scaled_to_the_models_size(
    pipe: Any, picture: Any, size: Any, caplog: pytest.LogCaptureFixture
) -> None:
    found, says = planned(pipe, caplog, image=Image.new("RGB", picture))
    assert found == size
    assert abs(math.log(math.prod(size) / TRAINED**2)) < 0.2
    assert f"{picture[0]}x{picture[1]} is painted at {size[0]}x{size[1]}" in says
    assert says.count("\n") == 0


@pytest.mark.parametrize("picture", [(64, 64), (77, 70), (72, 80), (50, 40)])
def test_one_near_it_is_painted_at_its_own_as_in_diffusers(
    pipe: Any, picture: Any, caplog: pytest.LogCaptureFixture
) -> None:
    found, says = planned(pipe, caplog, image=Image.new("RGB", picture))
    assert found == tuple(side // 8 * 8 for side in picture)
    assert says == ""


def test_what_is_asked_for_is_painted(pipe: Any, caplog: pytest.LogCaptureFixture) -> None:
    photo = Image.new("RGB", (400, 300))
    assert planned(pipe, caplog, image=photo, width=72, height=72) == ((72, 72), "")
    assert planned(pipe, caplog, image=photo, width=80)[0] == (80, 64)  # in its shape: 60
    assert planned(pipe, caplog, image=photo, height=72)[0] == (96, 72)
    assert planned(pipe, caplog, image=photo, tile=64)[0] == (400, 296)


def test_a_mask_comes_along_and_the_rest_keeps_its_size(
    pipe: Any, caplog: pytest.LogCaptureFixture
) -> None:
    photo, mask = Image.new("RGB", (400, 300)), Image.new("L", (400, 300), 255)
    plan = pipe.plan(
        "boat", image=photo, mask_image=mask, keep_unmasked=True, seed=1, num_inference_steps=4
    )
    assert (plan.settings.width, plan.settings.height) == (72, 56)
    assert plan.visible == (400, 300)


@pytest.mark.parametrize(
    ("width", "height", "says"),
    [
        (64, 64, ""),
        (96, 96, ""),
        (128, 64, ""),
        (128, 128, "128x128 is far from the 64x64 that tree was trained on: larger ones repeat"),
        (32, 32, "32x32 is far from the 64x64 that tree was trained on: smaller ones are garbled"),
    ],
)
def test_sizes_far_from_the_models_get_a_line(
    pipe: Any, width: int, height: int, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    size, said = planned(pipe, caplog, width=width, height=height)
    assert size == (width, height)
    assert said.startswith(says)
    assert bool(said) == bool(says)
    assert planned(pipe, caplog, width=width, height=height, tile=32)[1] == ""


def test_shapes_are_kept() -> None:
    for picture in ((4000, 3000), (3000, 2000), (1000, 1000), (1920, 1080)):
        width, height = sizing.scaled_to(picture, 512, 8)
        assert width % 8 == height % 8 == 0
        assert width / height == pytest.approx(picture[0] / picture[1], rel=0.02)
        assert width * height == pytest.approx(512**2, rel=0.03)
