"""The pipeline's signature is that of the declared options, and what `from_pretrained` opens."""

import inspect
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pleinair.runtime
from fakes import model_folder, opened
from pleinair.runtime import Pipeline, PipelineOutput, Plan, StableDiffusionPipeline
from pleinair.runtime.errors import BundleError, SettingError
from pleinair.runtime.options.groups import CALL
from pleinair.runtime.options.option import declared

PLAN = inspect.signature(StableDiffusionPipeline.plan).parameters
CALLBACKS = {"callback_on_step_end", "callback_on_stage"}
NAMED = [
    name
    for name, parameter in PLAN.items()
    if name not in {"self", *CALLBACKS} and parameter.kind is not parameter.VAR_KEYWORD
]
GROUPS = {name: group for group in CALL for name in declared(group)}


@pytest.mark.parametrize("name", NAMED)
def test_an_argument_is_a_declared_option(name: str) -> None:
    group = GROUPS[name]
    hints = typing.get_type_hints(StableDiffusionPipeline.plan)
    assert hints[name] == typing.get_type_hints(group)[name]
    if name != "prompt":  # the one that has to be given
        assert PLAN[name].default == declared(group)[name].default


def test_prompts_alone_are_positional() -> None:
    positional = [name for name, one in PLAN.items() if one.kind is one.POSITIONAL_OR_KEYWORD]
    assert positional == ["self", "prompt", "negative_prompt"]
    assert PLAN["prompt"].default is inspect.Parameter.empty


def test_the_call_has_the_plan_s_signature() -> None:
    assert inspect.signature(StableDiffusionPipeline.__call__).parameters == PLAN


@pytest.mark.parametrize(
    "name", ["image", "strength", "guidance_scale", "num_inference_steps", "eta", "latents"]
)
def test_arguments_of_diffusers_keep_their_names(name: str) -> None:
    pipelines = pytest.importorskip("diffusers")
    theirs = {
        *inspect.signature(pipelines.StableDiffusionPipeline.__call__).parameters,
        *inspect.signature(pipelines.StableDiffusionImg2ImgPipeline.__call__).parameters,
    }
    assert name in theirs
    assert name in PLAN


def test_what_the_runtime_hands_out() -> None:
    assert Pipeline is StableDiffusionPipeline
    for name in pleinair.runtime.__all__:
        assert getattr(pleinair.runtime, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'Painter'"):
        _ = pleinair.runtime.Painter


@pytest.fixture
def pipe(tmp_path: Path) -> Any:
    return opened(model_folder(tmp_path / "tree"))


def test_plans_and_outputs_are_of_those_kinds(pipe: Any) -> None:
    plan = pipe.plan("boat", num_inference_steps=1)
    assert isinstance(plan, Plan)
    assert isinstance(plan.paint(), PipelineOutput)
    assert isinstance(pipe("boat", num_inference_steps=1), PipelineOutput)


def test_start_noise_is_what_a_seed_begins_with(pipe: Any) -> None:
    seen: list[np.ndarray] = []

    def look(_: Any, step: int, t: Any, shown: dict[str, Any]) -> bool:
        seen.append(shown["latents"])
        return False

    for arguments in ({"seed": 5}, {"seed": 9, "latents": pipe.start_noise(5)}):
        out = pipe("boat", num_inference_steps=2, callback_on_step_end=look, **arguments)
        assert out.stopped
        assert out.images == []
    np.testing.assert_array_equal(*seen)
    assert pipe.start_noise(1, 32, 64).shape == (1, 4, 8, 4)


def test_enlarge_is_a_call_with_enlarge(pipe: Any) -> None:
    picture = Image.new("RGB", (50, 30))
    out = pipe.enlarge(picture, "boat", seed=1, num_inference_steps=4)
    assert out.images[0].size == (100, 60)
    same = pipe("boat", image=picture, enlarge=2.0, seed=1, num_inference_steps=4)
    assert np.array_equal(same.images[0], out.images[0])


def test_each_picture_of_a_first_pass_is_enlarged(pipe: Any) -> None:
    heard: list[str] = []
    out = pipe(
        ["boat", "tree"],
        seed=1,
        num_inference_steps=4,
        enlarge=2,
        callback_on_stage=lambda stage, *_: heard.append(stage),
    )
    assert [image.size for image in out.images] == [(128, 128)] * 2
    assert out.seeds == [1, 2]
    assert {"load", "encode", "picture", "denoise", "enlarge", "decode"} == set(heard)
    assert len(out.timings.steps) == 2 * (4 + 1)


def test_a_callback_changes_the_latents(pipe: Any) -> None:
    def zero(_: Any, step: int, t: Any, shown: dict[str, Any]) -> dict[str, Any]:
        assert shown.keys() == {"latents", "pred_original_sample", "image"}
        return {"latents": np.full_like(shown["latents"], step)}

    out = pipe("boat", num_inference_steps=3, output_type="latent", callback_on_step_end=zero)
    assert np.unique(out.images[0]).tolist() == [2]


def test_a_preview_is_as_large_as_the_picture(pipe: Any) -> None:
    found = pipe.preview(np.full((1, 4, 8, 6), np.nan, np.float32))
    assert found.size == (48, 64)


def test_an_unknown_profile_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="profile 'quick' is unknown; choose from: exact"):
        opened(model_folder(tmp_path / "tree"), profile="quick")
    with pytest.raises(BundleError, match="holds no unet_int8 as openvino, which profile fast"):
        opened(model_folder(tmp_path / "other"), profile="fast")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": 3}, "model is 3; give a text or a path"),
        ({"loras": "a.safetensors"}, "loras is 'a.safetensors'; give a list of texts or paths"),
        ({"loras": [5]}, r"loras is \[5\]; give a list"),
        ({"embeddings": [("a.pt", 5)]}, "embeddings is .*; give a list"),
        ({"controlnet": 5}, "controlnet is 5; give a text, a path, a pair or a list"),
        ({"threads": "2"}, "threads is '2'; give a whole number"),
        ({"threads": True}, "threads is True; give a whole number"),
        ({"engine": None}, "engine is None; give a text"),
        ({"max_memory": 1.5}, "max_memory is 1.5; give a text or a whole number"),
        ({"cache_dir": b"cache"}, "cache_dir is b'cache'; give a text or a path"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_opening_checks_types_before_anything_is_read(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingError, match=f"^{message}"):
        Pipeline.from_pretrained(**{"model": "nowhere", **arguments})


@pytest.mark.parametrize("output_type", ["pil", "np", "latent"])
def test_what_comes_back(pipe: Any, output_type: str) -> None:
    (found,) = pipe("boat", num_inference_steps=1, width=32, output_type=output_type).images
    if output_type == "pil":
        assert (found.size, found.mode) == ((32, 64), "RGB")
    elif output_type == "np":
        assert (found.shape, found.dtype) == ((64, 32, 3), np.float32)
    else:
        assert found.shape == (1, 4, 8, 4)
