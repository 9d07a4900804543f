"""What a call asks for: arguments by group, seeds and prompts, and whose an option is."""

from pathlib import Path
from typing import Any

import pytest

from fakes import instruction_folder, model_folder
from pleinair.runtime.denoise.variation import Variation
from pleinair.runtime.errors import PromptError, SettingError
from pleinair.runtime.families import open_model
from pleinair.runtime.families.instruction import InstructionOptions
from pleinair.runtime.options.groups import Noise, Prompting, Reuse
from pleinair.runtime.request import Request, consecutive, seeds_of

USUAL = Reuse(cache_interval=4, cache_branch=1, cache_schedule="uniform", cache_guidance="kept")


@pytest.fixture
def family(tmp_path: Path) -> Any:
    return open_model(model_folder(tmp_path / "tree"))


def asked(family: Any, **arguments: Any) -> Request:
    return Request.of(family, USUAL, {"prompt": "boat", **arguments})


def test_arguments_come_in_their_groups(family: Any) -> None:
    found = asked(family, seed=3, strength=0.5, tile=64, vae="tiny")
    assert found.prompting == Prompting(prompt="boat")
    assert found.noise == Noise(seed=3)
    assert (found.picture.strength, found.size.tile, found.size.vae) == (0.5, 64, "tiny")
    assert found.family_options == family.options()


def test_none_is_not_given(family: Any) -> None:
    every = {"eta": None, "num_images_per_prompt": None, "syntax": None, "vae": None}
    others = {"noise_level": None, "original_size": None, "image_guidance_scale": None}
    assert asked(family, **every, **others) == asked(family)


def test_what_a_call_does_not_say_is_as_the_profile_has_it(family: Any) -> None:
    assert asked(family).reuse == USUAL
    found = asked(family, cache_interval=1, cache_branch=0).reuse
    assert (found.cache_interval, found.cache_branch, found.cache_guidance) == (1, 0, "kept")


@pytest.mark.parametrize("value", [1, None])
def test_an_unknown_argument_is_a_type_error_with_a_hint(family: Any, value: Any) -> None:
    with pytest.raises(TypeError, match="a call has no argument 'strenght'; meant: strength"):
        asked(family, strenght=value)
    with pytest.raises(TypeError, match=r"a call has no argument 'zebra'$"):
        asked(family, zebra=value)


@pytest.mark.parametrize(
    ("name", "whose"),
    [
        ("image_guidance_scale", "models that edit by instruction"),
        ("noise_level", "upscalers"),
        ("original_size", "Stable Diffusion XL"),
    ],
)
def test_an_option_of_another_family_says_whose_it_is(family: Any, name: str, whose: str) -> None:
    with pytest.raises(SettingError, match=f"^{name} is for {whose}; tree is none$"):
        asked(family, **{name: 1})


def test_an_option_of_the_family_itself(tmp_path: Path) -> None:
    editor = open_model(instruction_folder(tmp_path / "edit"))
    assert asked(editor, image_guidance_scale=2).family_options == InstructionOptions(
        image_guidance_scale=2
    )


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("syntax", "webui, plain"),
        ("vae_tiling", "auto, on, off"),
        ("output_type", "pil, np, latent"),
        ("safety", "on, blur, off"),
        ("cache_schedule", "uniform, growing"),
        ("resize", "stretch, crop, pad"),
    ],
)
def test_a_value_that_is_no_choice(family: Any, name: str, choices: str) -> None:
    with pytest.raises(SettingError, match=f"^{name} is 'other'; choose from: {choices}$"):
        asked(family, **{name: "other"})


@pytest.mark.parametrize("prompt", [None, 5, b"boat", ["boat", 5], ["boat", None], {"boat": 1}])
@pytest.mark.parametrize("name", ["prompt", "negative_prompt"])
def test_what_is_no_prompt(family: Any, name: str, prompt: Any) -> None:
    if name == "negative_prompt" and prompt is None:
        return
    with pytest.raises(SettingError, match=f"^{name} is .*; give a text or a list of texts$"):
        asked(family, **{name: prompt})


def test_at_least_one_prompt(family: Any) -> None:
    with pytest.raises(PromptError, match="prompt is a list of 0 texts; give at least one"):
        _ = asked(family, prompt=[]).prompts


def test_negative_prompts_go_with_their_prompts(family: Any) -> None:
    """As in diffusers: one for all, or one for each."""
    pairs = [("a", "x"), ("a", "x"), ("b", "y"), ("b", "y")]
    several: dict[str, Any] = {"prompt": ["a", "b"], "num_images_per_prompt": 2}
    jobs = asked(family, negative_prompt=["x", "y"], **several).jobs()
    assert [(job.prompt, job.negative) for job in jobs] == pairs
    jobs = asked(family, negative_prompt="x", **several).jobs()
    assert [job.negative for job in jobs] == ["x"] * 4
    assert [job.negative for job in asked(family, **several).jobs()] == [None] * 4
    for wrong in ([], ["x"], ["x", "y", "z"]):
        with pytest.raises(SettingError, match=r"negative_prompt is a list of \d for 2 prompts"):
            _ = asked(family, negative_prompt=wrong, **several).jobs()


def test_every_prompt_as_often_as_asked(family: Any) -> None:
    jobs = asked(family, prompt=("a", "b"), num_images_per_prompt=2, seed=7).jobs()
    assert [(job.prompt, job.seed) for job in jobs] == [("a", 7), ("a", 8), ("b", 9), ("b", 10)]
    for wrong in (0, -1, 10**9):
        with pytest.raises(SettingError, match=r"num_images_per_prompt is .*; give 1 or more"):
            _ = asked(family, num_images_per_prompt=wrong).jobs()


def test_variations_share_the_seed() -> None:
    found = seeds_of(7, variation_seed=100, variation_strength=0.25, count=2)
    assert found == [(7, Variation(100, 0.25)), (7, Variation(101, 0.25))]
    assert seeds_of(7, variation_seed=100, variation_strength=0, count=2) == [(7, None), (8, None)]
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(SettingError, match="variation_strength is"):
            seeds_of(7, variation_seed=None, variation_strength=wrong, count=1)


def test_seeds_that_torch_takes() -> None:
    assert consecutive(2**64 - 2, 2) == [2**64 - 2, 2**64 - 1]
    assert consecutive(-(2**63), 1) == [-(2**63)]
    for wrong, count in ((2**64 - 1, 2), (-(2**63) - 1, 1), (1.5, 1), ("7", 1)):
        with pytest.raises(SettingError, match=r"noise_seed is .*; give a whole number"):
            consecutive(wrong, count, "noise_seed")  # type: ignore[arg-type]


def test_drawn_seeds_are_small_enough_to_be_typed_again() -> None:
    found = consecutive(None, 3)
    assert found == [found[0], found[0] + 1, found[0] + 2]
    assert found[0] >= 0
    assert found[-1] < 2**32


def test_a_seed_of_minus_one_is_drawn() -> None:
    found = {consecutive(-1, 1)[0] for _ in range(4)}
    assert len(found) > 1
    assert all(0 <= seed < 2**32 for seed in found)
    (shared, variation), _ = seeds_of(-1, variation_seed=-1, variation_strength=0.5, count=2)
    assert shared >= 0
    assert variation is not None
    assert variation.seed >= 0
