"""Pictures to start from, variations, LoRA and embeddings, from the command line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pictures import hole, painting
from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.cli import main

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture(autouse=True)
def in_a_fresh_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    painting(80, 72).save("start.png")
    hole(80, 72).save("mask.png")


@pytest.fixture
def model(exported_openvino: Path) -> str:
    return str(exported_openvino)


@pytest.fixture
def quick(model: str) -> list[str]:
    return ["--model", model, "--steps", "4", "--seed", "7", "--prompt", "boat"]


def painted(name: str) -> np.ndarray:
    return np.asarray(Image.open(name))


def library(model: str, **settings: object) -> np.ndarray:
    pipe = StableDiffusionPipeline.from_pretrained(model, profile="exact")
    return np.asarray(pipe("boat", seed=7, num_inference_steps=4, **settings).images[0])


@pytest.mark.parametrize("flag", ["--init-img", "--init-image", "--image"])
def test_a_picture_from_a_picture(quick: list[str], model: str, flag: str) -> None:
    assert main([*quick, flag, "start.png", "--strength", "0.5", "--output", "a.png"]) == 0
    expected = library(model, image="start.png", strength=0.5)
    assert expected.shape == (72, 80, 3)
    assert np.array_equal(painted("a.png"), expected)


def test_a_mask_keeps_what_is_black(quick: list[str], model: str) -> None:
    flags = ["--init-img", "start.png", "--mask", "mask.png", "--keep-unmasked"]
    assert main([*quick, *flags, "--output", "a.png"]) == 0
    kept = painted("mask.png") == 0
    assert np.array_equal(painted("a.png")[kept], painted("start.png")[kept])
    assert not np.array_equal(painted("a.png")[~kept], painted("start.png")[~kept])
    assert main([*quick, *flags, "--mask-invert", "--output", "b.png"]) == 0
    assert np.array_equal(painted("b.png")[~kept], painted("start.png")[~kept])


def test_the_way_to_another_size(quick: list[str], model: str) -> None:
    flags = ["--init-img", "start.png", "--W", "64", "--H", "64", "--resize", "crop"]
    assert main([*quick, *flags, "--output", "a.png"]) == 0
    expected = library(model, image="start.png", width=64, height=64, resize="crop")
    assert np.array_equal(painted("a.png"), expected)


def test_one_start_noise_of_the_picture_s_size(quick: list[str]) -> None:
    flags = ["--init-img", "start.png", "--strength", "0.5", "--scheduler", "ddim"]
    flags += ["--fixed_code", "--n_samples", "2", "--skip_grid", "--outdir", "out"]
    assert main([*quick, *flags]) == 0
    first, second = (painted(f"out/samples/0000{i}.png") for i in range(2))
    assert first.shape == (72, 80, 3)
    # The picture's own sample is drawn by each seed; the noise on it is one and the same.
    assert np.abs(first.astype(int) - second.astype(int)).mean() < 20


def test_variations_share_a_seed(quick: list[str], model: str) -> None:
    flags = ["--variation-strength", "0.3", "--variation-seed", "40", "--n_samples", "2"]
    assert main([*quick, *flags, "--outdir", "out"]) == 0
    for i in range(2):
        expected = library(model, variation_seed=40 + i, variation_strength=0.3)
        assert np.array_equal(painted(f"out/samples/0000{i}.png"), expected)
    again = ["--model", model, "--params-from", "out/samples/00001.png", "--output", "again.png"]
    assert main(again) == 0
    assert np.array_equal(painted("again.png"), painted("out/samples/00001.png"))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--init-img", "nowhere.png"], "nowhere.png"),
        (["--mask", "mask.png"], "mask"),
        (["--init-img", "start.png", "--strength", "0"], "strength"),
        (["--init-img", "start.png", "--resize", "melt"], "resize"),
        (["--variation-strength", "2"], "--variation-strength is 2"),
        (["--lora", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--embedding", "nowhere.pt"], "nowhere.pt"),
    ],
)
def test_mistakes_are_one_line(quick: list[str], flags: list[str], says: str, capsys) -> None:
    assert main([*quick, *flags, "--output", "a.png"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(lines) == 1
    assert says in lines[0]
    assert not Path("a.png").exists()
