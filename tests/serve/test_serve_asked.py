"""What is asked: tags, seeds, and the call that paints one of several pictures."""

import pytest

from pleinair.runtime.errors import PromptError
from pleinair.serve.asked import Asked


def test_tags_in_the_prompt_are_files() -> None:
    asked = Asked(arguments={"prompt": "a cat <lora:ink:0.5> <lora:old>"}, loras=[("wash", 1.0)])
    settled = asked.settled("pocket")
    assert settled.arguments["prompt"] == "a cat"
    assert settled.loras == (("wash", 1.0), ("ink", 0.5), ("old", 1.0))
    assert settled.model == "pocket"


def test_tags_in_a_plain_prompt_are_text() -> None:
    arguments = {"prompt": "a <lora:ink:0.5>", "syntax": "plain"}
    settled = Asked(arguments=arguments).settled("pocket")
    assert settled.arguments == arguments
    assert settled.loras == ()


def test_a_tag_that_is_none_is_refused() -> None:
    with pytest.raises(PromptError, match="is no weight"):
        Asked(arguments={"prompt": "<lora:ink:much>"}).settled("pocket")


@pytest.mark.parametrize("seed", [None, -1])
def test_a_seed_is_drawn_once(seed: int | None) -> None:
    settled = Asked(seed=seed).settled("pocket")
    assert settled.seed is not None
    assert 0 <= settled.seed < 2**32
    assert settled.settled("pocket").seed == settled.seed


def test_a_given_seed_stays() -> None:
    assert Asked(seed=0).settled("pocket").seed == 0


def test_pictures_count_their_seeds_up() -> None:
    asked = Asked(seed=7, number=3, arguments={"prompt": "a cat"})
    assert [asked.call(i)["seed"] for i in range(3)] == [7, 8, 9]


def test_of_several_images_each_is_painted_from_in_turn() -> None:
    arguments = {"prompt": "a cat", "image": ["a", "b"], "mask_image": [None, "m"]}
    asked = Asked(seed=7, number=4, arguments=arguments)
    calls = [asked.call(i) for i in range(4)]
    assert [call["image"] for call in calls] == ["a", "a", "b", "b"]
    assert [call["mask_image"] for call in calls] == [None, None, "m", "m"]
    assert [call["seed"] for call in calls] == [7, 8, 7, 8]
    assert {call["prompt"] for call in calls} == {"a cat"}


def test_of_variations_the_other_seed_counts_up() -> None:
    arguments = {"prompt": "a cat", "variation_strength": 0.2}
    settled = Asked(seed=7, number=2, arguments=arguments).settled("pocket")
    first, second = settled.call(0), settled.call(1)
    assert first["seed"] == second["seed"] == 7
    assert second["variation_seed"] == first["variation_seed"] + 1
