"""The prompt language in the pipeline and on the command line."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pictures import painting
from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.cli import main
from pleinair.runtime.errors import PromptError, SettingError

pytestmark = pytest.mark.usefixtures("compiled_once")

QUICK: dict[str, Any] = {"num_inference_steps": 4, "width": 64, "height": 64, "scheduler": "ddim"}
LONG = "apple " * 90


@pytest.fixture(scope="module")
def pipe(exported_openvino: Path) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(
        exported_openvino, engine="openvino", profile="exact"
    )


@pytest.fixture
def quick(exported_openvino: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    return ["--model", str(exported_openvino), "--steps", "2", "--seed", "7"]


def latents(pipe: StableDiffusionPipeline, prompt: str, **arguments: Any) -> np.ndarray:
    return pipe(prompt, output_type="latent", **{"seed": 1, **QUICK, **arguments}).images[0]


def recorded(path: str) -> list[str]:
    return Image.open(path).text["parameters"].splitlines()


@pytest.mark.parametrize(
    ("prompt", "same"),
    [
        ("(red:1.0) apple", "red apple"),
        ("red \\apple", "red apple"),
        ("[red:blue:99] apple", "red apple"),
        ("[red|red] apple", "red apple"),
    ],
)
def test_syntax_that_changes_nothing(pipe: StableDiffusionPipeline, prompt: str, same: str) -> None:
    assert np.array_equal(latents(pipe, prompt), latents(pipe, same))
    assert not np.array_equal(latents(pipe, prompt, syntax="plain"), latents(pipe, same))


@pytest.mark.parametrize(
    "prompt",
    ["(red:1.6) apple", "[red] apple", "[red:blue:2] apple", "[red|blue] apple", "red BREAK apple"],
)
def test_syntax_that_changes_the_picture(pipe: StableDiffusionPipeline, prompt: str) -> None:
    assert not np.array_equal(latents(pipe, prompt), latents(pipe, "red apple"))


def test_a_switch_is_made_at_its_step(pipe: StableDiffusionPipeline) -> None:
    """Up to the switch the latents are the first prompt's, bit for bit."""

    def steps(prompt: str) -> list[np.ndarray]:
        seen: list[np.ndarray] = []
        look = lambda pipe, step, t, shown: seen.append(shown["latents"].copy())  # noqa: E731
        latents(pipe, prompt, callback_on_step_end=look)
        return seen

    switched, first = steps("[red:blue:0.5] apple"), steps("red apple")
    equal = [np.array_equal(a, b) for a, b in zip(switched, first, strict=True)]
    assert equal == [True, True, False, False]


def test_the_schedule_of_a_picture_from_a_picture(pipe: StableDiffusionPipeline) -> None:
    """Counted as webui counts: over the steps asked for, from the first that is taken.

    Its schedule is made for all steps, and its denoiser counts from 0 wherever it begins.
    """
    start = {"image": painting(64, 64), "strength": 0.5}  # the last two of four steps

    def same(prompt: str, other: str) -> bool:
        return np.array_equal(latents(pipe, prompt, **start), latents(pipe, other, **start))

    assert same("[red:blue:0.5] apple", "red apple")  # two of the four steps: all that are taken
    assert same("[red:blue:0.25] apple", "[red:blue:1] apple")
    assert not same("[red:blue:0.25] apple", "red apple")


def test_long_prompts(pipe: StableDiffusionPipeline, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pleinair")
    whole = latents(pipe, LONG)
    assert "prompt is read in 2 chunks" in caplog.messages
    cut = latents(pipe, LONG, long_prompt="truncate")
    assert not np.array_equal(whole, cut)
    assert np.array_equal(cut, latents(pipe, "apple " * 75))
    assert not np.array_equal(whole, latents(pipe, LONG, negative_prompt="blue " * 160))


def test_stop_is_before_any_work(pipe: StableDiffusionPipeline) -> None:
    told: list[str] = []
    for arguments in ({"prompt": LONG}, {"prompt": "boat", "negative_prompt": LONG}):
        with pytest.raises(PromptError, match="92 tokens"):
            pipe(
                **arguments,
                long_prompt="stop",
                callback_on_stage=lambda *stage: told.append(stage[0]),
                **QUICK,
            )
    with pytest.raises(SettingError, match="webui, plain"):
        pipe("boat", syntax="magic", **QUICK)
    assert not told


def test_prompts_of_several_lengths_in_one_call(pipe: StableDiffusionPipeline) -> None:
    """Each image is what it is alone: a long neighbour does not lengthen it."""
    output = pipe(["boat", LONG, "boat"], seed=4, output_type="latent", **QUICK)
    for image, prompt, seed in zip(output.images, ["boat", LONG, "boat"], (4, 5, 6), strict=True):
        assert np.array_equal(image, latents(pipe, prompt, seed=seed))


def test_style_and_neg(quick: list[str]) -> None:
    flags = ["--style", "vaporwave", "--style", "oil painting", "--neg", "blurry"]
    assert main([*quick, "--prompt", "a boat", *flags, "--output", "a.png"]) == 0
    prompt, negative = recorded("a.png")[:2]
    assert prompt.startswith("oil painting of a boat, vaporwave")
    assert negative.startswith("Negative prompt: blurry, ")


def test_wildcards(quick: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("cards").mkdir()
    Path("cards/colour.txt").write_text("red\nblue\n")
    flags = ["--prompt", "__colour__ {boat|tree|house}", "--n_samples", "6", "--skip_grid"]
    assert main([*quick, *flags, "--wildcards", "cards"]) == 0
    prompts = [recorded(path)[0] for path in capsys.readouterr().out.splitlines()]
    assert len(prompts) == 6
    assert len(set(prompts)) > 1
    assert all("_" not in prompt and "{" not in prompt for prompt in prompts)
    # Picture i is drawn by seed + i: alone it gets the same words.
    alone = ["--wildcards", "cards", "--seed", "9", "--output", "alone.png"]
    assert main([*quick, "--prompt", flags[1], *alone]) == 0
    assert recorded("alone.png")[0] == prompts[2]


def test_a_prompt_file_s_own_options(quick: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("prompts.txt").write_text(
        '# sheet\na boat --seed 3 --style ukiyo-e --neg "red, dark"\na tree --steps x\na house\n'
    )
    assert main([*quick, "--from-file", "prompts.txt", "--skip_grid"]) == 2
    output = capsys.readouterr()
    assert "line 3 left out" in output.err
    boat, house = (recorded(path) for path in output.out.splitlines())
    assert boat[0].startswith("ukiyo-e woodblock print of a boat")
    assert boat[1].startswith("Negative prompt: red, dark, ")
    assert "Seed: 3," in boat[2]
    assert house[0] == "a house"
    assert "Seed: 7," in house[1]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--style", "vaporwav"], "vaporwave"),
        (["--prompt", "__nowhere__", "--wildcards"], "nowhere.txt"),
        (["--prompt", LONG, "--long-prompt", "stop"], "apple apple"),
        (["--long-prompt", "magic"], "chunk, stop, truncate"),
        (["--prompt-syntax", "magic"], "webui, plain"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_bad_values_are_one_line(
    quick: list[str], flags: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*quick, *flags]) == 2
    (error,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert says in error


def test_plain_text_and_cut_prompts_by_flag(quick: list[str]) -> None:
    prompt = ["--prompt", f"(red:1.6) {LONG}", "--output"]
    assert main([*quick, *prompt, "a.png"]) == 0
    assert main([*quick, *prompt, "b.png", "--long-prompt", "truncate"]) == 0
    assert main([*quick, *prompt, "c.png", "--prompt-syntax", "plain"]) == 0
    pictures = [np.asarray(Image.open(f"{name}.png")) for name in "abc"]
    assert not np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])
