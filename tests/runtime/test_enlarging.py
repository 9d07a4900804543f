"""Enlarging with any model: one picture without seams, in tiles, repeatable, refused in time."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pictures import hole, painting
from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.cli import main
from pleinair.runtime.errors import SettingError
from pleinair.runtime.model import catalog
from pleinair.runtime.model.parts import Parts
from pleinair.runtime.model.tiles import Tiles
from pleinair.runtime.record import infotext, metadata

pytestmark = pytest.mark.usefixtures("compiled_once")

POCKET = catalog.bundled()
PROMPT = "a red apple, noto style, on a light blue background"
QUICK = ["--model", str(POCKET), "--prompt", PROMPT, "--seed", "7", "--steps", "4"]
QUICK += ["--engine", "openvino"]


@pytest.fixture(scope="module")
def pipe() -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_pretrained(POCKET, engine="openvino", profile="exact")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    painting(80, 56).save("photo.png")
    return tmp_path


def pixels(image: Image.Image | str) -> np.ndarray:
    opened = Image.open(image) if isinstance(image, str) else image
    return np.asarray(opened).astype(int)


def test_where_one_tile_is_enough_it_is_image_to_image(pipe: StableDiffusionPipeline) -> None:
    picture = painting(32, 24)
    arguments: dict[str, Any] = {"seed": 3, "num_inference_steps": 5, "strength": 0.4}
    arguments["guidance_scale"] = 3.0
    enlarged = pipe.enlarge(picture, PROMPT, "cat", scale=2, **arguments)
    large = picture.resize((64, 48), Image.Resampling.LANCZOS)
    plain = pipe(PROMPT, "cat", image=large, **arguments)
    assert enlarged.seeds == [3]
    assert np.array_equal(enlarged.images[0], plain.images[0])


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [((64, 64), 1.5, (96, 96)), ((50, 67), 1.5, (75, 100)), ((40, 64), 3, (120, 192))],
)
def test_any_size(
    pipe: StableDiffusionPipeline,
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    scale: float,
    expected: tuple[int, int],
) -> None:
    """Nothing that is computed is larger than a tile, and of that only one size is compiled."""
    seen: set[tuple[str, tuple[int, ...]]] = set()
    graph = pipe.parts.graph

    def watched(part: str, shapes: Any, *others: Any) -> Any:
        seen.update((part, tuple(shape)[2:]) for shape in shapes.values() if len(shape) == 4)
        return graph(part, shapes, *others)

    monkeypatch.setattr(pipe.parts, "graph", watched)
    told: list[tuple[str, int, int]] = []
    picture = painting(*size)
    arguments = {"seed": 1, "num_inference_steps": 6, "strength": 0.4}
    output = pipe.enlarge(
        picture, "boat", scale=scale, callback_on_stage=lambda *at: told.append(at), **arguments
    )
    assert output.images[0].size == expected
    assert len(seen) == 3
    for part, sides in seen:
        assert max(sides) <= (64 if part == "vae_encoder" else 64 // pipe.family.space.factor)
    # The picture is still there.
    smooth = pixels(picture.resize(expected, Image.Resampling.LANCZOS))
    assert np.abs(pixels(output.images[0]) - smooth).mean() < 40
    for stage in ("enlarge", "decode"):
        done = [done for name, done, _ in told if name == stage]
        totals = {total for name, _, total in told if name == stage}
        assert done == list(range(done[-1] + 1))
        assert totals == {done[-1]}
        assert done[-1] > 2  # tiles, not steps


def test_an_array_comes_back_at_its_size(pipe: StableDiffusionPipeline) -> None:
    arguments: dict[str, Any] = {"seed": 1, "num_inference_steps": 4, "strength": 0.3}
    output = pipe.enlarge(painting(21, 30), "boat", scale=3, output_type="np", **arguments)
    assert output.images[0].shape == (90, 63, 3)
    latents = pipe.enlarge(painting(21, 30), "boat", scale=3, output_type="latent", **arguments)
    factor = pipe.family.space.factor
    assert latents.images[0].shape == (1, 4, 96 // factor, 64 // factor)


def test_both_engines_enlarge_alike(exported_openvino: Path, exported_onnx: Path) -> None:
    how: dict[str, Any] = {"scale": 2, "seed": 7, "num_inference_steps": 5}
    first, second = (
        pixels(
            StableDiffusionPipeline.from_pretrained(folder, engine=engine, profile="exact")
            .enlarge(painting(64, 48), PROMPT, **how)
            .images[0]
        )
        for folder, engine in ((exported_openvino, "openvino"), (exported_onnx, "onnxruntime"))
    )
    assert first.std() > 10
    assert np.abs(first - second).max() <= 1


def test_no_seams(pipe: StableDiffusionPipeline) -> None:
    """From dot to dot it changes hardly more where tiles end than around it."""
    small = pipe(PROMPT, seed=7, num_inference_steps=10).images[0]

    def at_the_ends(overlap: int | None) -> float:
        how: dict[str, Any] = {"scale": 4, "seed": 7, "num_inference_steps": 10}
        large = pixels(pipe.enlarge(small, PROMPT, tile_overlap=overlap, **how).images[0])
        cells = 256 // pipe.family.space.factor
        tiles = Tiles.covering((cells, cells), cells // 4, cells // 16 if overlap is None else 0)
        ends = {end for rows, _ in tiles.windows for end in (rows.start, rows.stop)}
        ratios = []
        for axis in (0, 1):
            change = np.abs(np.diff(large, axis=axis)).mean(axis=(1 - axis, 2))
            for end in ends - {0, cells}:
                dot = end * pipe.family.space.factor - 1
                ratios.append(change[dot] / max(change[dot - 6 : dot + 7].mean(), 0.01))
        return float(np.mean(ratios))

    assert at_the_ends(overlap=None) < 1.6
    assert at_the_ends(overlap=0) > 1.8  # what is looked for can be seen


def test_two_passes(pipe: StableDiffusionPipeline, here: Path) -> None:
    """The command paints, then enlarges; and its file says how, so that it can be had again."""
    assert main([*QUICK, "--enlarge", "2", "--enlarge-strength", "0.5", "--output", "a.png"]) == 0
    small = pipe(PROMPT, seed=7, num_inference_steps=4).images[0]
    large = pipe.enlarge(small, PROMPT, scale=2, strength=0.5, seed=7, num_inference_steps=4)
    assert np.array_equal(Image.open("a.png"), large.images[0])
    said = metadata.read("a.png").settings
    assert (said["width"], said["height"], said["enlarge"]) == (64, 64, 2.0)
    assert (said["enlarge_strength"], said["enlarge_guidance_scale"]) == (0.5, 1.0)
    again = ["--model", str(POCKET), "--params-from", "a.png", "--output"]
    assert main([*again, "again.png"]) == 0
    assert np.array_equal(Image.open("again.png"), Image.open("a.png"))
    assert main([*again, "other.png", "--enlarge-guidance", "4"]) == 0
    assert not np.array_equal(Image.open("other.png"), Image.open("a.png"))


def test_the_second_pass_has_steps_of_its_own(pipe: StableDiffusionPipeline, here: Path) -> None:
    assert main([*QUICK, "--enlarge", "2", "--enlarge-steps", "7", "--output", "a.png"]) == 0
    small = pipe(PROMPT, seed=7, num_inference_steps=4).images[0]
    large = pipe.enlarge(small, PROMPT, scale=2, seed=7, num_inference_steps=7).images[0]
    assert np.array_equal(Image.open("a.png"), large)
    assert metadata.read("a.png").settings["enlarge_steps"] == 7
    again = ["--model", str(POCKET), "--params-from", "a.png", "--output", "again.png"]
    assert main(again) == 0
    assert np.array_equal(Image.open("again.png"), Image.open("a.png"))


def test_a_picture_that_is_there(pipe: StableDiffusionPipeline, here: Path) -> None:
    flags = ["--init-img", "photo.png", "--enlarge", "1.5", "--tile", "64", "--tile-overlap", "32"]
    assert main([*QUICK, *flags, "--output", "a.png"]) == 0
    how: dict[str, Any] = {"scale": 1.5, "tile_overlap": 32, "seed": 7, "num_inference_steps": 4}
    expected = pipe.enlarge("photo.png", PROMPT, **how).images[0]
    assert expected.size == (120, 84)
    assert np.array_equal(Image.open("a.png"), expected)
    # Told to change it first, it does.
    flags = ["--init-img", "photo.png", "--enlarge", "1.5", "--strength", "0.6"]
    assert main([*QUICK, *flags, "--output", "b.png"]) == 0
    changed = pipe(PROMPT, image="photo.png", strength=0.6, seed=7, num_inference_steps=4)
    how = {"scale": 1.5, "seed": 7, "num_inference_steps": 4}
    expected = pipe.enlarge(changed.images[0], PROMPT, **how).images[0]
    assert np.array_equal(Image.open("b.png"), expected)


def test_a_file_of_prompts_and_its_journal(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("prompts.txt").write_text("a red apple --enlarge 2\na rocket\n")
    job = [flag for flag in QUICK if flag not in ("--prompt", PROMPT)]
    job += ["--from-file", "prompts.txt", "--outdir", "out", "--skip_grid"]
    assert main(job) == 0
    sizes = [Image.open(f"out/samples/0000{i}.png").size for i in range(2)]
    assert sizes == [(128, 128), (64, 64)]
    Path("out/samples/00000.png").unlink()
    assert main(job) == 0  # goes on with what is not there, as after a kill
    assert Image.open("out/samples/00002.png").size == (128, 128)
    assert "going on after 1 of 2" in capsys.readouterr().err


def test_stopped_in_the_middle_nothing_is_left(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pleinair.runtime.cli import progress

    def stops(self: object, stage: str, done: int, total: int) -> None:
        if stage == "enlarge" and done == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(progress.StageBars, "__call__", stops)
    assert main([*QUICK, "--enlarge", "2", "--output", "a.png"]) == 130
    assert [path.name for path in here.iterdir()] == ["photo.png"]
    assert "stopped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--enlarge", "0.5"], "--enlarge is 0.5; give 1 or more"),
        (["--enlarge", "nan"], "enlarge is nan; give a finite number"),
        (["--enlarge", "200"], "million pixels"),
        (
            ["--enlarge", "2", "--init-img", "photo.png", "--W", "9999", "--H", "9999"],
            "million pixels",
        ),
        (["--enlarge", "2", "--enlarge-strength", "0"], "strength is 0"),
        (["--enlarge", "2", "--enlarge-strength", "0.1"], "of 4 steps that leaves none"),
        (["--enlarge", "2", "--tile", "60"], "tile is 60; give a multiple of 8"),
        (["--enlarge", "2", "--tile-overlap", "40"], "--tile-overlap is 40; give a multiple of 8"),
        (["--enlarge", "2", "--init-img", "nowhere.png"], "nowhere.png"),
        (["--enlarge-strength", "0.3"], "--enlarge-strength is about --enlarge; give that too"),
        (
            ["--enlarge", "2", "--enlarge-guidance", "-1"],
            "--enlarge-guidance is -1; give 0",
        ),
        (["--enlarge", "2", "--enlarge-steps", "0"], "--enlarge-steps is 0; give 1 or more"),
        (["--tile-overlap", "16"], "give --tile, their size"),
        (["--vae-tiling", "maybe"], "--vae-tiling is 'maybe'"),
        (["--noise-level", "20"], "--noise-level is for upscalers"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_mistakes_are_one_line_before_any_work(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, flags: list[str], says: str
) -> None:
    monkeypatch.setattr(Parts, "graph", None)  # nothing is compiled
    assert main([*QUICK, *flags, "--output", "a.png"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(lines) == 1
    assert says in lines[0]
    assert [path.name for path in here.iterdir()] == ["photo.png"]


@pytest.mark.parametrize(
    ("size", "how", "expected"),
    [
        ((1024, 1024), {}, 1),
        ((1032, 1024), {}, 22 * 22),
        ((1032, 1024), {"vae_tiling": "off"}, 1),
        ((128, 64), {"vae_tiling": "on"}, 3 * 2),
        ((64, 64), {"vae_tiling": "on"}, 1),  # which the VAE was trained on
    ],
    ids=str,
)
def test_when_the_vae_goes_in_tiles_of_its_own(
    pipe: StableDiffusionPipeline, size: tuple[int, int], how: dict[str, Any], expected: int
) -> None:
    plan = pipe.plan(PROMPT, width=size[0], height=size[1], **how)
    assert len(plan.vae_tiles.windows) == expected
    assert len(plan.tiles.windows) == 1


def test_tiles_that_are_denoised_are_the_vaes_too(pipe: StableDiffusionPipeline) -> None:
    plan = pipe.plan(PROMPT, width=1032, height=1024, tile=64, vae_tiling="on")
    assert plan.vae_tiles is plan.tiles


def test_a_model_for_another_task_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    painter = StableDiffusionPipeline.from_pretrained(POCKET, engine="openvino", profile="exact")
    monkeypatch.setattr(type(painter.family), "task", "inpainting")
    with pytest.raises(SettingError, match="pocket is made for inpainting"):
        painter.enlarge(painting(), "boat", mask_image=hole())


def test_the_text_is_webuis() -> None:
    made = {"prompt": "a boat", "num_inference_steps": 4, "seed": 3, "width": 64, "height": 64}
    text = infotext.write({**made, "enlarge": 2.0, "enlarge_strength": 0.3, "strength": 0.8})
    assert "Size: 64x64, Denoising strength: 0.3, Hires upscale: 2, Hires upscaler: Lanczos" in text
    settings, meaningless = infotext.read(text)
    assert (settings["enlarge"], settings["enlarge_strength"]) == ("2", "0.3")
    assert "strength" not in settings
    assert meaningless == []
