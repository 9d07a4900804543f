"""Plans: checked without work, what they count, and that they refuse what a call refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fakes import model_folder, opened
from pleinair.runtime.errors import BundleError, EngineError, PleinairError, SettingError
from pleinair.runtime.graphs.cut import Cut

PICTURE = Image.new("RGB", (64, 64), (10, 200, 30))
WHITE = Image.new("L", (64, 64), 255)
QUICK: dict[str, Any] = {"seed": 1, "num_inference_steps": 6}


def said(arguments: dict[str, Any]) -> str:
    """For a test's name, in which no picture can stand."""
    return ", ".join(arguments) or "plain"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("plan") / "tree", parts=("vae_encoder",))


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Any:
    return opened(folder)


def test_a_plan_compiles_nothing(folder: Path) -> None:
    pipe = opened(folder, refuses=EngineError("nothing is compiled here"))
    plan = pipe.plan("boat", image=PICTURE, strength=0.5, **QUICK)
    assert plan.settings.steps == 6
    pipe.plan("[a:b:0.5] " * 100, enlarge=2, cache_interval=3, **QUICK)
    with pytest.raises(EngineError, match="nothing is compiled here"):
        plan.paint()


@pytest.mark.parametrize(
    "arguments",
    [
        {"width": 63},
        {"num_inference_steps": 0},
        {"num_inference_steps": 2000},
        {"guidance_scale": -1},
        {"guidance_start": 0.6, "guidance_stop": 0.5},
        {"eta": 2},
        {"scheduler": "nothing"},
        {"strength": 0.5},
        {"image": PICTURE, "strength": 0},
        {"image": PICTURE, "strength": 0.01},
        {"image": "nothing.png"},
        {"mask_image": PICTURE},
        {"keep_unmasked": True},
        {"image": PICTURE, "mask_image": Image.new("L", (64, 64), 0)},
        {"control_image": PICTURE},
        {"tile": 63},
        {"tile_overlap": 8},
        {"tile": 32, "tile_overlap": 24},
        {"cache_interval": 0},
        {"cache_interval": 2, "cache_branch": 4},
        {"latents": np.zeros((1, 4, 1, 1), np.float32)},
        {"latents": np.zeros((1, 4, 8, 8), np.float32), "noise_seed": 1},
        {"noise_seed": 2**64},
        {"denoising_start": 0.5},
        {"denoising_end": 1.5},
        {"image": PICTURE, "denoising_end": 0.5},
        {"vae": "tiny"},
        {"safety": "on"},
        {"clip_skip": 3},
        {"num_images_per_prompt": 0},
        {"variation_strength": 2},
        {"enlarge_strength": 0.5},
        {"enlarge": 0.5},
        {"enlarge": 1e9},
        {"enlarge": 2, "enlarge_strength": 2},
        {"prompt": "boat " * 200, "long_prompt": "stop"},
        {"prompt": []},
        {"prompt": "boat AND tree", "guidance_scale": 1},
        {"prompt": "boat AND tree", "guidance_stop": 0.5},
        {"prompt": "boat AND tree", "negative_prompt": "boat AND tree"},
        {"prompt": ["boat", "boat AND " * 100]},
        {"prompt": "boat " * 20_000},
        {"prompt": "boat BREAK " * 500},
        {"prompt": "boat \ud83d"},
        {"zebra": 1},
        {"noise_level": 1},
    ],
    ids=said,
)
def test_a_plan_refuses_what_the_call_refuses(folder: Path, arguments: dict[str, Any]) -> None:
    pipe = opened(folder)
    asked = {"prompt": "boat", **arguments}
    with pytest.raises((PleinairError, TypeError)) as planned:
        pipe.plan(**asked)
    with pytest.raises(planned.type) as painted:
        pipe(**asked)
    assert str(painted.value) == str(planned.value)
    assert pipe.engine.compiled == []


def test_a_folder_without_an_encoder_is_refused_before_any_work(tmp_path: Path) -> None:
    pipe = opened(model_folder(tmp_path / "tree", parts=()))
    pipe.plan("boat", **QUICK)
    for arguments in ({"image": PICTURE}, {"enlarge": 2}):
        with pytest.raises(BundleError, match="holds no vae_encoder as openvino"):
            pipe.plan("boat", **arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"guidance_scale": 1},
        {"guidance_start": 0.2, "guidance_stop": 0.7},
        {"guidance_start": 0.4, "cache_interval": 4},
        {"cache_interval": 3},
        {"cache_interval": 3, "cache_schedule": "growing", "cache_guidance": "kept"},
        {"cache_interval": 4, "cache_guidance": "kept", "guidance_start": 0.4},
        {"cache_interval": 4, "prompt": "[boat:tree:0.5]", "cache_guidance": "kept"},
        {"cache_interval": 4, "negative_prompt": "[boat|tree]"},
        {"scheduler": "heun", "cache_interval": 2},
        {"scheduler": "plms", "guidance_stop": 0.5},
        {"image": PICTURE, "strength": 0.5},
        {"denoising_end": 0.5},
        {"width": 96, "tile": 64},
        {"width": 96, "tile": 64, "cache_interval": 2, "cache_guidance": "kept"},
        {"prompt": "boat AND tree :0.5"},
        {"prompt": "boat AND [tree:house:0.5]", "cache_interval": 3},
        {"prompt": "boat AND [tree|house]", "cache_interval": 3, "cache_guidance": "kept"},
        {"prompt": "boat AND tree", "width": 96, "tile": 64, "cache_interval": 2},
    ],
    ids=said,
)
def test_evaluations_are_the_calls_that_graphs_see(pipe: Any, arguments: dict[str, Any]) -> None:
    plan = pipe.plan(**{"prompt": "boat", **QUICK, **arguments})
    pipe.engine.calls.clear()
    plan.paint()
    calls = {"full": pipe.engine.calls["unet"], "shallow": pipe.engine.calls["unet, shallow"]}
    assert plan.evaluations == {name: count for name, count in calls.items() if count}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            {},
            "1 picture of 64x64, 6 steps, guidance scale 7.5; evaluations for each: "
            "6 full of 2 branches",
        ),
        (
            {"prompt": ["a", "b"], "guidance_scale": 1, "num_inference_steps": 1},
            "2 pictures of 64x64, 1 step, guidance scale 1; evaluations for each: "
            "1 full of 1 branch",
        ),
        (
            {"cache_interval": 3, "cache_guidance": "kept"},
            "1 picture of 64x64, 6 steps, guidance scale 7.5; evaluations for each: "
            "2 full of 2 branches, 4 shallow of 1 branch",
        ),
        (
            {"enlarge": 2},
            "1 picture of 64x64, 6 steps, guidance scale 7.5; evaluations for each: "
            "6 full of 2 branches; then 1 picture of 128x128, 1 step, guidance scale 1; "
            "evaluations for each: 9 full of 1 branch",
        ),
    ],
    ids=["plain", "several", "cached", "enlarged"],
)
def test_a_plan_says_what_it_is(pipe: Any, arguments: dict[str, Any], expected: str) -> None:
    assert str(pipe.plan(**{"prompt": "boat", **QUICK, **arguments})) == expected


def test_unsaid_settings_are_the_model_s(tmp_path: Path) -> None:
    recommended = {"size": 32, "steps": 3, "guidance_scale": 2.5, "scheduler": "euler"}
    pipe = opened(model_folder(tmp_path / "tree", manifest={"recommended": recommended}))
    found = pipe.plan("boat").settings
    assert (found.width, found.height, found.steps) == (32, 32, 3)
    assert (found.guidance_scale, found.scheduler) == (2.5, "euler")
    found = pipe.plan("boat", width=64, num_inference_steps=5, scheduler="ddim").settings
    assert (found.width, found.height, found.steps, found.scheduler) == (64, 32, 5, "ddim")


def test_the_size_is_the_picture_s_rounded_down(pipe: Any) -> None:
    plan = pipe.plan("boat", image=Image.new("RGB", (77, 50)))
    assert (plan.settings.width, plan.settings.height) == plan.visible == (72, 48)


def test_strength_and_mask(pipe: Any) -> None:
    assert pipe.plan("boat", image=PICTURE).settings.strength == 0.8
    assert pipe.plan("boat", image=PICTURE, mask_image=WHITE).settings.strength == 1.0
    plan = pipe.plan("boat", image=PICTURE, strength=0.5, num_inference_steps=10)
    assert plan.timesteps == range(5, 10)


def test_only_a_picture_to_enlarge_is_one_pass(pipe: Any) -> None:
    plan = pipe.plan("boat", image=Image.new("RGB", (50, 30)), enlarge=2)
    assert plan.then is None
    assert plan.visible == (100, 60)
    assert (plan.settings.width, plan.settings.height) == (104, 64)
    assert (plan.settings.strength, plan.settings.guidance_scale) == (0.3, 1.0)


def test_two_passes(pipe: Any) -> None:
    plan = pipe.plan("boat", image=PICTURE, strength=0.5, enlarge=1.5, enlarge_strength=0.4)
    assert plan.settings.strength == 0.5
    assert plan.then.settings.strength == 0.4
    assert plan.then.settings.width == 96
    assert plan.then.settings.canvas is None  # the picture is still to come
    picture = Image.new("RGB", plan.visible)
    onto = plan.then.onto(picture, plan.jobs, pipe.family)
    assert onto.settings.canvas.pixels.shape == (1, 3, 96, 96)
    assert list(onto.jobs) == list(plan.jobs)


def test_the_vae_in_tiles_by_diffusers_rule(pipe: Any) -> None:
    """At once up to a tile of its own; "auto" up to 1024 x 1024."""
    assert len(pipe.plan("boat", width=64, vae_tiling="on").vae_tiles.windows) == 1
    assert len(pipe.plan("boat", width=128, vae_tiling="auto").vae_tiles.windows) == 1
    assert len(pipe.plan("boat", width=128, vae_tiling="on").vae_tiles.windows) > 1
    assert len(pipe.plan("boat", width=1088, height=1024).vae_tiles.windows) > 1
    assert len(pipe.plan("boat", width=1088, height=1024, vae_tiling="off").vae_tiles.windows) == 1
    tiled = pipe.plan("boat", width=96, tile=64)
    assert tiled.vae_tiles is tiled.tiles


def test_a_plan_can_be_painted_twice(pipe: Any) -> None:
    plan = pipe.plan("boat", **QUICK)
    first, second = plan.paint(), plan.paint()
    assert first.seeds == second.seeds == [1]
    assert np.array_equal(first.images[0], second.images[0])


def test_latents_by_a_noise_seed_are_its_noise(pipe: Any) -> None:
    plan = pipe.plan("boat", noise_seed=5)
    np.testing.assert_array_equal(plan.latents, pipe.start_noise(5))
    with pytest.raises(SettingError, match=r"latents are of shape \(1, 4, 8, 8\); this size needs"):
        pipe.plan("boat", width=32, latents=plan.latents)


def test_the_cut_is_that_of_the_plan(pipe: Any) -> None:
    plan = pipe.plan("boat", cache_interval=2, cache_branch=1)
    assert plan.caching.full == Cut(1, shallow=False)
    assert plan.caching.shallow == Cut(1, shallow=True)
