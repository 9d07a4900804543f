"""Bounds: what is too much, and what no client may ask for, whichever API it came by."""

import math
from typing import Any

import pytest
from PIL import Image

from pleinair.serve.bounds import NOT_SERVED, SERVED, Bounds
from pleinair.serve.errors import Refusal
from serving import asked

BOUNDS = Bounds(pixels=64 * 64, steps=20, number=4, prompt=100)
LARGE = Image.new("L", (65, 64))
SMALL = Image.new("L", (32, 32))


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        ({"prompt": "a" * 101}, "prompt"),
        ({"negative_prompt": "a" * 101}, "negative_prompt"),
        ({"prompt": ["a cat", "a dog"]}, "prompt"),
        ({"num_inference_steps": 21}, "num_inference_steps"),
        ({"num_inference_steps": 10**4000}, "num_inference_steps"),
        ({"width": 65, "height": 64}, "width"),
        ({"width": 10**400, "height": 10**400}, "width"),
        ({"width": 64, "height": 64, "enlarge": 2}, "width"),
        ({"width": 8, "height": 8, "enlarge": math.inf}, "width"),
        ({"image": SMALL, "enlarge": 4}, "width"),
        ({"image": [SMALL], "enlarge": 4}, "width"),
        ({"image": LARGE}, "image"),
        ({"image": [SMALL, SMALL]}, "image"),
        ({"image": []}, "image"),
        ({"image": [SMALL], "mask_image": [SMALL, None]}, "mask_image"),
        ({"enlarge_steps": 21}, "enlarge_steps"),
        ({"mask_image": LARGE}, "mask_image"),
        ({"control_image": [SMALL, LARGE]}, "control_image"),
        ({"image": "/etc/passwd"}, "image"),
        ({"image": b"PNG"}, "image"),
        ({"control_image": "canny:/etc/passwd"}, "control_image"),
        ({"mask_image": "mask.png"}, "mask_image"),
        ({"colour": "red"}, "colour"),
        *(({name: 1}, name) for name in sorted(NOT_SERVED)),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else value,
)
def test_what_is_refused_names_the_argument(arguments: dict[str, Any], param: str) -> None:
    with pytest.raises(Refusal) as refused:
        BOUNDS.check(asked(arguments=arguments))
    assert refused.value.param == param
    assert refused.value.retry_after is None
    assert len(str(refused.value)) < 6000


@pytest.mark.parametrize("number", [0, -1, 5])
def test_so_many_pictures_at_most(number: int) -> None:
    with pytest.raises(Refusal, match="ask for 1 to 4"):
        BOUNDS.check(asked(number=number))


@pytest.mark.parametrize(("seed", "number"), [(2**64, 1), (-(2**63) - 1, 1), (2**64 - 3, 4)])
def test_a_seed_that_no_call_takes(seed: int, number: int) -> None:
    with pytest.raises(Refusal) as refused:
        BOUNDS.check(asked(seed=seed, number=number))
    assert refused.value.param == "seed"


@pytest.mark.parametrize(
    "arguments",
    [
        {"image": SMALL, "mask_image": "alpha", "enlarge": 2},
        {"image": None, "mask_image": None, "negative_prompt": None},
        {"width": 64, "height": 64, "num_inference_steps": 20, "enlarge": 1},
        {"enlarge": math.nan},  # which the call itself refuses
    ],
)
def test_what_is_within_the_bounds(arguments: dict[str, Any]) -> None:
    BOUNDS.check(asked(number=4, seed=2**64 - 4, arguments=arguments))


def test_every_option_of_a_call_is_served_or_named() -> None:
    assert {"prompt", "image", "scheduler", "cache_interval"} <= SERVED.keys()
    assert SERVED.keys().isdisjoint(NOT_SERVED)
