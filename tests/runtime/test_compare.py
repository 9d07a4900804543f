"""Comparison sheets: axes are checked before any work, cells are what a single call paints."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFont

from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.cli import main
from pleinair.runtime.cli.compare import Comparison
from pleinair.runtime.errors import SettingError
from pleinair.runtime.images.sheets import sheet

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exported_openvino: Path) -> list[str]:
    monkeypatch.chdir(tmp_path)
    return ["--model", str(exported_openvino), "--steps", "2", "--seed", "7", "--prompt", "boat"]


def files(folder: str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*.*"))


def test_the_first_axis_runs_along_the_columns() -> None:
    comparison = Comparison.parsed(["steps=10,25", "scheduler=euler,ddim", "seed=1,2"])
    cells = comparison.cells()
    assert len(cells) == 8
    assert cells[:3] == [
        {"num_inference_steps": 10, "scheduler": "euler", "seed": 1},
        {"num_inference_steps": 25, "scheduler": "euler", "seed": 1},
        {"num_inference_steps": 10, "scheduler": "ddim", "seed": 1},
    ]
    assert cells[-1] == {"num_inference_steps": 25, "scheduler": "ddim", "seed": 2}
    colours = ["red", "green", "blue", "black", "white", "gray", "navy", "teal"]
    boards = comparison.sheets([Image.new("RGB", (40, 30), colour) for colour in colours])
    assert len(boards) == 2
    assert [_places(boards[0], colour) for colour in ((255, 0, 0), (0, 128, 0))] == [1200, 1200]
    assert [_places(board, (0, 0, 128)) for board in boards] == [0, 1200]


def _places(board: Image.Image, colour: tuple[int, int, int]) -> int:
    return int((np.asarray(board) == colour).all(axis=-1).sum())


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("scale=1,7.5", [{"guidance_scale": 1.0}, {"guidance_scale": 7.5}]),
        ("guidance-scale=2", [{"guidance_scale": 2.0}]),
        ("clip_skip=0,1", [{"clip_skip": 0}, {"clip_skip": 1}]),
        ("W=64, 72", [{"width": 64}, {"width": 72}]),
        ("size=64x72", [{"width": 64, "height": 72}]),
        ("prompt=a cat, sitting|a [red|blue] dog", 2),
        ("negative_prompt=|fog", [{"negative_prompt": ""}, {"negative_prompt": "fog"}]),
    ],
)
def test_values_of_every_kind(word: str, values: list[dict[str, object]] | int) -> None:
    cells = Comparison.parsed([word]).cells()
    if isinstance(values, int):
        values = [{"prompt": "a cat, sitting"}, {"prompt": "a [red|blue] dog"}]
    assert cells == values


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["magic=1,2"], "with one of: H, W, aesthetic-score, cache-branch"),
        (["steps"], "name=value,value"),
        (["steps=10,many"], "'many' is not a whole number"),
        (["steps=1.5"], "'1.5' is not a whole number"),
        (["scale=x"], "'x' is not a number"),
        (["steps="], "a value is missing"),
        (["scheduler=euler,magic"], "'magic'"),
        (["size=64"], "'64' is not a size"),
        (["steps=1", "ddim_steps=2"], "num_inference_steps twice"),
        (["size=64x64", "W=64"], "width twice"),
        (["steps=1", "scale=1", "seed=1", "eta=0"], "at most 3"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_compared(words: list[str], says: str, capsys) -> None:
    with pytest.raises(SettingError, match=says):
        Comparison.parsed(words)
    assert main(["--compare", *words]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1  # not even the model was opened


def test_a_sheet_and_its_single_pictures(quick: list[str], exported_openvino: Path) -> None:
    axes = ["steps=1,2,3", "scheduler=euler,dpmpp_2m"]
    assert main([*quick, "--compare", *axes, "--outdir", "out"]) == 0
    assert files("out") == ["compare-0000.png", *(f"samples/0000{i}.png" for i in range(6))]
    pipe = StableDiffusionPipeline.from_pretrained(exported_openvino, profile="exact")
    own = pipe("boat", seed=7, num_inference_steps=3, scheduler="dpmpp_2m").images[0]
    assert np.array_equal(Image.open("out/samples/00005.png"), own)
    board = np.asarray(Image.open("out/compare-0000.png"))
    assert _found(np.asarray(own), board)
    text = Image.open("out/compare-0000.png").text["parameters"]
    assert "Seed: 7" in text
    assert "Steps" not in text
    assert main([*quick, "--compare", "size=64x72", "--outdir", "out", "--skip_save"]) == 0
    assert files("out")[:2] == ["compare-0000.png", "compare-0001.png"]
    assert len(files("out")) == 8


def _found(picture: np.ndarray, board: np.ndarray) -> bool:
    """The picture's pixels stand somewhere on the board, none changed."""
    height, width = picture.shape[:2]
    rows, columns = np.nonzero((board[:, :] == picture[0, 0]).all(axis=-1))
    return any(
        np.array_equal(board[y : y + height, x : x + width], picture)
        for y, x in zip(rows, columns, strict=True)
    )


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--compare", "steps=2,0"], "--steps is 0"),
        (["--compare", "size=64x64,60x64"], "multiple of 8"),
        (["--compare", "clip_skip=0,9"], "--clip-skip is 9"),
        (["--compare", "eta=0,2"], "eta"),
        (["--compare", "steps=1,2", "--n_samples", "2"], "one picture a cell"),
        (["--compare", "steps=1,2", "--output", "a.png"], "one picture a cell"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_values_are_told_before_any_picture(
    quick: list[str], flags: list[str], says: str, capsys
) -> None:
    assert main([*quick, *flags]) == 2
    output = capsys.readouterr()
    (error,) = [line for line in output.err.splitlines() if line.startswith("error: ")]
    assert says in error
    assert not output.out
    assert not [path for path in Path("outputs").rglob("*") if path.is_file()]


def test_labels_make_room_for_themselves() -> None:
    picture = Image.new("RGB", (64, 64), "red")
    bare = sheet([[picture, picture]], ["1", "2"])
    long = sheet([[picture, picture]], ["a much longer label of many words", "2"], ["row"], "title")
    assert long.height > bare.height
    assert long.width > bare.width
    ink = np.asarray(long)[:, :, 0] < 100
    assert ink.any()
    assert not ink[:, -1].any()
    assert not ink[-1].any()


def test_letters_that_no_font_has_are_written_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no fonts, and Pillow's alone is left."""
    truetype = ImageFont.truetype

    def without_files(font: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(font, str):
            raise OSError(f"no font {font}")
        return truetype(font, *arguments, **options)

    def labelled(label: str) -> Image.Image:
        return sheet([[Image.new("RGB", (64, 64))]], [label])

    monkeypatch.setattr(ImageFont, "truetype", without_files)
    written = np.asarray(labelled("café 苹果"))
    assert np.array_equal(written, labelled("cafe \\u82f9\\u679c"))
    assert not np.array_equal(written, labelled("cafe"))
    assert labelled("蓝色 🍎").size[0] >= 64
