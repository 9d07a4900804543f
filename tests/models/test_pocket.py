"""The bundled model is whole, small, and paints what it is asked for; so do its extra parts."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from pleinair.runtime import StableDiffusionPipeline, families
from pleinair.runtime.cli import main
from pleinair.runtime.images.similarity import psnr
from pleinair.runtime.model import catalog
from pleinair.runtime.model.bundle import Bundle

pytestmark = pytest.mark.usefixtures("compiled_once")

POCKET = Path(__file__).parents[2] / "models" / "pocket"
LCM_LORA = POCKET / "source" / "lcm_lora" / "pytorch_lora_weights.safetensors"
FEW_STEPS = {"num_inference_steps": 4, "guidance_scale": 1.0, "scheduler": "lcm"}
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
    return StableDiffusionPipeline.from_pretrained(POCKET, profile="exact")


@pytest.fixture(scope="module")
def diffusers_pipe() -> Any:
    import torch
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(POCKET / "source", torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def nearest(pixel: np.ndarray) -> str:
    """The name of the background colour that a pixel comes closest to."""
    return min(COLOURS, key=lambda name: float(np.abs(pixel - np.array(COLOURS[name])).sum()))


def corners(picture: np.ndarray) -> np.ndarray:
    parts = [picture[:5, :5], picture[:5, -5:], picture[-5:, :5], picture[-5:, -5:]]
    return np.median(np.concatenate([part.reshape(-1, 3) for part in parts]), axis=0)


def colour_at(picture: np.ndarray, x: int, y: int) -> str:
    """Of the 12x12 pixels around a place."""
    return nearest(np.median(picture[y - 6 : y + 6, x - 6 : x + 6].reshape(-1, 3), axis=0))


def painted(pipe: StableDiffusionPipeline, prompt: Any, **settings: Any) -> list[np.ndarray]:
    return [np.asarray(image, float) for image in pipe(prompt, **settings).images]


def test_is_whole_and_small() -> None:
    Bundle.open(POCKET).verify()
    here = [file for file in POCKET.rglob("*") if file.is_file()]
    shipped = [file for file in here if "training" not in file.relative_to(POCKET).parts]
    assert sum(file.stat().st_size for file in shipped) < 40e6


def test_is_what_a_fresh_machine_paints_with() -> None:
    assert catalog.find("pocket").resolve() == POCKET.resolve()
    assert catalog.bundled().resolve() == POCKET.resolve()


def test_a_copy_under_another_name_paints_the_same(
    pipe: StableDiffusionPipeline, tmp_path: Path
) -> None:
    """What it is best painted with stands in the folder itself; the catalog knows the same."""
    copy = tmp_path / "renamed"
    ignored = shutil.ignore_patterns("training", "source", "sheets")
    shutil.copytree(POCKET, copy, ignore=ignored, copy_function=os.symlink)  # compiled once
    entry = catalog.known("pocket")
    assert entry is not None
    described = json.loads((copy / "pleinair.json").read_text(encoding="utf-8"))
    assert described["recommended"] == catalog.recommendation(entry)
    family = families.open_model(copy)
    assert family.recommended == pipe.family.recommended
    other = StableDiffusionPipeline.from_pretrained(copy, profile="exact")
    [ours], [theirs] = (painted(one, "a rocket", seed=2) for one in (pipe, other))
    assert np.array_equal(ours, theirs)


def test_a_copy_is_recognized_as_the_bundled_model(tmp_path: Path) -> None:
    """A checkout's folder beside an installed one is such a copy."""
    copy = tmp_path / "renamed"
    shutil.copytree(POCKET, copy, ignore=shutil.ignore_patterns("training", "source", "sheets"))
    assert catalog.is_bundled(POCKET)
    assert catalog.is_bundled(copy)
    described = json.loads((copy / "pleinair.json").read_text(encoding="utf-8"))
    described["files"].popitem()
    (copy / "pleinair.json").write_text(json.dumps(described), encoding="utf-8")
    assert not catalog.is_bundled(copy)
    (copy / "pleinair.json").unlink()
    assert not catalog.is_bundled(copy)


# Words.


def said(records: Any) -> list[str]:
    return [record.getMessage() for record in records if "does not know" in record.getMessage()]


def test_unknown_words_are_named_when_a_call_is_planned(caplog: pytest.LogCaptureFixture) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(POCKET)
    pipe.plan("a (red apple:1.2) on a blue background", "two cats")
    assert said(caplog.records) == []
    pipe.plan(["a [catle|dog], (oil painting:1.3)", "一只蓝色的汽车"], "ugly, a cat", enlarge=2)
    [line] = said(caplog.records)
    for word in ("catle (castle", "oil painting", "蓝色 (蓝色背景", "ugly"):
        assert word in line
    assert "317 things" in line
    assert "pleinair models --words pocket" in line
    pipe.plan("an oil painting")
    assert len(said(caplog.records)) == 1


def test_a_negative_prompt_that_does_nothing_is_not_read(caplog: pytest.LogCaptureFixture) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(POCKET)
    pipe.plan("a cat", "ugly", guidance_scale=1.0)
    assert said(caplog.records) == []


def test_the_words_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--words"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "pocket knows 317 things, 4 styles and 14 backgrounds"
    assert "    castle, 城堡, 欧洲城堡" in lines
    assert main(["models", "--words", "pocket"]) == 0
    assert capsys.readouterr().out.splitlines() == lines


def test_a_model_without_a_list_of_words_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "renamed"
    shutil.copytree(POCKET, copy, ignore=shutil.ignore_patterns("training", "source", "sheets"))
    (copy / "vocabulary.json").unlink()
    (copy / "pleinair.json").unlink()
    assert main(["models", "--words", str(copy)]) == 2
    assert "renamed lists no words" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("prompt", "thing", "background"),
    [
        ("一只红色的苹果", "red apple", "white"),
        ("一辆蓝色的汽车", "automobile", "white"),
        ("在蓝色背景上的火箭", "rocket", "blue"),
        ("浅绿色背景上的一颗黄色的星星", "star", "light green"),
        ("a black cat", "cat face", "white"),
    ],
)
def test_colours_of_things_are_not_grounds(
    pipe: StableDiffusionPipeline, prompt: str, thing: str, background: str
) -> None:
    from pleinair.models.pocket.training.classifier import load_classifier
    from pleinair.models.pocket.training.judge import judge
    from pleinair.models.pocket.training.scenes import Scene

    painted = pipe(prompt, seed=100, num_inference_steps=12, num_images_per_prompt=2)
    pictures = [np.asarray(image) for image in painted.images]
    scene = Scene((thing,), "noto", background)
    verdicts, _ = judge([scene] * 2, pictures, load_classifier().read)
    assert all(one.top1 and one.ground and one.background for one in verdicts), verdicts


@pytest.mark.parametrize("thing", ["red apple", "star", "robot"])
def test_backgrounds_are_the_colour_asked_for(pipe: StableDiffusionPipeline, thing: str) -> None:
    prompts = [f"a {thing} on a {colour} background" for colour in COLOURS]
    found = [nearest(corners(picture)) for picture in painted(pipe, prompts, seed=1)]
    right = sum(colour == name for colour, name in zip(found, COLOURS, strict=True))
    assert right >= len(COLOURS) - 1, found


@pytest.mark.parametrize(
    ("prompt", "colour"),
    [
        ("a red apple", "red"),
        ("a red heart", "red"),
        ("a blue heart", "blue"),
        ("a star", "yellow"),
        ("a tomato", "red"),
        ("红心", "red"),
        ("蓝心", "blue"),
    ],
)
def test_things_are_their_colour(pipe: StableDiffusionPipeline, prompt: str, colour: str) -> None:
    pictures = painted(pipe, prompt, seed=10, num_images_per_prompt=3)
    found = [colour_at(picture, 32, 32) for picture in pictures]
    assert found.count(colour) >= 2, found


def test_pairs_stand_in_their_order(pipe: StableDiffusionPipeline) -> None:
    for prompt, colours in {
        "a red heart and a blue heart": ["red", "blue"],
        "a blue heart and a red heart": ["blue", "red"],
        "a star and a tomato": ["yellow", "red"],
    }.items():
        pictures = painted(pipe, prompt, seed=3, num_images_per_prompt=3)
        found = [[colour_at(picture, x, 32) for x in (17, 47)] for picture in pictures]
        assert found.count(colours) >= 2, (prompt, found)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_counts_to_three(pipe: StableDiffusionPipeline, number: int) -> None:
    prompt = ("a red heart", "two red hearts", "three red hearts")[number - 1]
    counted = []
    for picture in painted(pipe, prompt, seed=5, num_images_per_prompt=4):
        red = np.abs(picture - np.array(COLOURS["red"])).sum(-1) < 150
        parts, _ = ndimage.label(red)
        counted.append(int((np.bincount(parts.ravel())[1:] > 40).sum()))
    assert counted.count(number) >= 3, counted


def test_the_prompt_matters_more_than_the_seed(pipe: StableDiffusionPipeline) -> None:
    things = ["red heart", "panda", "rocket", "evergreen tree"]
    prompts = [f"a {thing}, noto style" for thing in things]
    first, second = (painted(pipe, prompts, seed=seed) for seed in (20, 40))
    for i, picture in enumerate(first):
        distances = [float(np.abs(picture - other).mean()) for other in second]
        assert int(np.argmin(distances)) == i, things[i]


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_the_source_paints_the_same_in_diffusers(diffusers_pipe: Any, engine: str) -> None:
    import torch

    pipe = StableDiffusionPipeline.from_pretrained(POCKET, engine=engine, profile="exact")
    settings = {"num_inference_steps": 8, "guidance_scale": 4.0}
    prompt = "a rocket on a blue background"
    [ours] = painted(pipe, prompt, seed=7, scheduler="ddim", **settings)
    generator = torch.Generator().manual_seed(7)
    theirs = diffusers_pipe(prompt, generator=generator, **settings).images[0]
    assert np.abs(ours - np.asarray(theirs, float)).max() <= 2  # weights are stored in float16


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_few_steps_are_those_of_diffusers(engine: str) -> None:
    """The LoRA, put into exported graphs without torch, against diffusers' fused into its U-Net."""
    import torch
    from diffusers import LCMScheduler
    from diffusers import StableDiffusionPipeline as Reference

    pipe = StableDiffusionPipeline.from_pretrained(
        POCKET, engine=engine, loras=[LCM_LORA], profile="exact"
    )
    [ours] = painted(pipe, "a rocket on a blue background", seed=7, **FEW_STEPS)
    reference = Reference.from_pretrained(POCKET / "source", torch_dtype=torch.float32)
    reference.set_progress_bar_config(disable=True)
    reference.load_lora_weights(LCM_LORA.parent)
    reference.fuse_lora()
    reference.scheduler = LCMScheduler.from_config(reference.scheduler.config)
    theirs = reference(
        "a rocket on a blue background",
        num_inference_steps=4,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(7),
    ).images[0]
    assert np.abs(ours - np.asarray(theirs, float)).max() <= 2


def test_few_steps_paint_what_is_asked_for(pipe: StableDiffusionPipeline) -> None:
    quick = StableDiffusionPipeline.from_pretrained(POCKET, loras=[LCM_LORA], profile="exact")
    prompts = [f"a tomato on a {colour} background" for colour in ("white", "blue", "black")]
    pictures = painted(quick, prompts, seed=1, **FEW_STEPS)
    assert [nearest(corners(picture)) for picture in pictures] == ["white", "blue", "black"]
    assert [colour_at(picture, 32, 32) for picture in pictures] == ["red"] * 3


def test_it_is_the_lora_that_paints_in_few_steps(pipe: StableDiffusionPipeline) -> None:
    """Without it four steps of this kind leave a blur."""
    quick = StableDiffusionPipeline.from_pretrained(POCKET, loras=[LCM_LORA], profile="exact")
    prompts = ["a bicycle", "a guitar", "a castle on a pink background", "a panda and an umbrella"]
    wanted = painted(pipe, prompts, seed=1)
    few = painted(quick, prompts, seed=1, **FEW_STEPS)
    blur = painted(pipe, prompts, seed=1, **FEW_STEPS)
    assert distance(few, wanted) < 0.95 * distance(blur, wanted)
    assert contours(blur) < 0.65 * contours(wanted) < 0.8 * contours(few)


@pytest.mark.slow
def test_few_steps_in_one_command(tmp_path: Path) -> None:
    """Base model, its LCM-LoRA and tiny decoder to a folder of 8 bits that paints in four steps."""
    from pleinair.export import cli

    words = [str(POCKET / "source"), str(tmp_path / "quick"), "--lora", str(LCM_LORA)]
    words += ["--tiny-vae", str(POCKET / "source" / "tiny_vae"), "--few-steps", "auto", "--quiet"]
    assert cli.main(words) == 0
    quick = StableDiffusionPipeline.from_pretrained(tmp_path / "quick")
    assert quick.profile.name == "balanced"
    prompts = [f"a tomato on a {colour} background" for colour in ("white", "blue", "black")]
    out = quick(prompts, seed=1)
    assert len(out.timings.steps) == 4 * len(prompts)
    pictures = [np.asarray(image, float) for image in out.images]
    assert [nearest(corners(picture)) for picture in pictures] == ["white", "blue", "black"]
    assert [colour_at(picture, 32, 32) for picture in pictures] == ["red"] * 3


def distance(pictures: list[np.ndarray], wanted: list[np.ndarray]) -> float:
    return float(np.mean([np.abs(a - b).mean() for a, b in zip(pictures, wanted, strict=True)]))


def contours(pictures: list[np.ndarray]) -> float:
    """How much neighbouring pixels differ."""
    return float(np.mean([np.abs(np.diff(picture, axis=0)).mean() for picture in pictures]))


def test_the_tiny_decoder_decodes_nearly_the_same(pipe: StableDiffusionPipeline) -> None:
    import torch
    from diffusers import AutoencoderTiny

    tiny = AutoencoderTiny.from_pretrained(POCKET / "source" / "tiny_vae")
    prompts = ["a panda", "a pizza on a blue background", "a cat face and a rocket"]
    latents = pipe(prompts, seed=2, output_type="latent").images
    for found, picture in zip(latents, painted(pipe, prompts, seed=2), strict=True):
        with torch.no_grad():
            decoded = tiny.decode(torch.from_numpy(np.asarray(found))).sample[0]
        pixels = (decoded.permute(1, 2, 0).clamp(-1, 1).numpy() + 1) * 127.5
        assert psnr(pixels, picture) > 20
