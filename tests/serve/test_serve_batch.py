"""`pleinair batch`: what is missing of a file's pictures is painted, each as the library does."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pleinair.runtime import StableDiffusionPipeline
from pleinair.runtime.cli import main
from pleinair.runtime.errors import PromptError
from pleinair.runtime.model import catalog
from pleinair.runtime.record import metadata
from pleinair.serve import batch, lines
from pleinair.serve.made import Made

CALL = {"num_inference_steps": 2}
PROMPTS = ("a red apple", "a rocket", "a blue fish")


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    """`file(line, …)`: a file with these lines, texts or objects."""

    def write(*written: str | dict[str, Any]) -> Path:
        path = tmp_path / "prompts.jsonl"
        texts = [one if isinstance(one, str) else json.dumps(one) for one in written]
        path.write_text("\n".join(texts), encoding="utf-8")
        return path

    return write


@pytest.fixture
def three(file: Callable[..., Path]) -> Path:
    return file(*({"prompt": prompt, **CALL} for prompt in PROMPTS))


def run(path: Path, folder: Path, *words: str) -> int:
    return main(["batch", str(path), "--outdir", str(folder), "--seed", "5", *words])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# Lines.


def test_a_line_without_a_seed_has_that_of_its_place(file: Callable[..., Path]) -> None:
    path = file("\ufeff" + '{"prompt": "a"}', "", '{"prompt": "b"}', {"prompt": "c", "seed": 9})
    read = lines.read(path, 100)
    assert [(one.file, one.asked.seed) for one in read.lines] == [
        ("00001.png", 100),
        ("00003.png", 102),
        ("00004.png", 9),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a red apple", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", 'no JSON object with a "prompt"'),
        ({"prompt": ["a", "b"]}, 'no JSON object with a "prompt"'),
        ({"prompt": "a", "seed": "7"}, "seed is 7; give a whole number"),
        ({"prompt": "a", "seed": -1}, "seed is -1; give a whole number"),
        ({"prompt": "a", "model": 3}, "model is 3; give a name"),
        ({"prompt": "a", "loras": ["ink"]}, "give names with weights"),
        ({"prompt": "a", "num_images_per_prompt": 2}, "a line is one picture"),
        ({"prompt": "a", "image": "none.png"}, "no such picture"),
        ({"prompt": "a", "control_image": "canny:x.png"}, "give the picture of the edges"),
        ({"prompt": "a", "variation_strength": 0.5}, "wants a variation_seed"),
    ],
)
def test_what_is_wrong_with_a_line(
    file: Callable[..., Path], line: str | dict[str, Any], said: str
) -> None:
    read = lines.read(file({"prompt": "fine"}, line), 0)
    assert [one.number for one in read.lines] == [1]
    assert said in read.bad[2]


def test_a_file_without_a_line_or_none_at_all(file: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="empty; write a line a picture"):
        lines.read(file("", " "), 0)
    with pytest.raises(PromptError, match="cannot be read"):
        lines.read(tmp_path / "none.jsonl", 0)


# Pictures.


def test_pictures_are_the_librarys(three: Path, tmp_path: Path) -> None:
    assert run(three, tmp_path / "out") == 0
    assert sorted(contents(tmp_path / "out")) == ["00001.png", "00002.png", "00003.png"]
    pipe = StableDiffusionPipeline.from_pretrained(catalog.bundled(), profile="exact")
    for i, prompt in enumerate(PROMPTS):
        path = tmp_path / "out" / f"{i + 1:05}.png"
        with Image.open(path) as image:
            assert image.tobytes() == pipe(prompt, seed=5 + i, **CALL).images[0].tobytes()
        said = metadata.read(path).settings
        assert (said["prompt"], said["seed"]) == (prompt, 5 + i)


def test_a_picture_from_a_picture_beside_the_lines(
    file: Callable[..., Path], tmp_path: Path
) -> None:
    Image.new("RGB", (64, 64), "orange").save(tmp_path / "start.png")
    path = file({"prompt": "a red apple", "image": "start.png", "strength": 0.5, **CALL})
    assert run(path, tmp_path / "out") == 0
    pipe = StableDiffusionPipeline.from_pretrained(catalog.bundled(), profile="exact")
    image = tmp_path / "start.png"
    alone = pipe("a red apple", image=image, strength=0.5, seed=5, **CALL).images[0]
    with Image.open(tmp_path / "out" / "00001.png") as painted:
        assert painted.tobytes() == alone.tobytes()


def test_every_pair_of_the_settings_compared(file: Callable[..., Path], tmp_path: Path) -> None:
    path = file({"prompt": "a red apple"})
    assert run(path, tmp_path / "out", "--compare", "steps=1,2", "seed=3,4") == 0
    found = {
        path.name: metadata.read(path).settings for path in sorted((tmp_path / "out").iterdir())
    }
    assert list(found) == [f"00001-0{i}.png" for i in range(4)]
    pairs = [(said["num_inference_steps"], said["seed"]) for said in found.values()]
    assert sorted(pairs) == [(1, 3), (1, 4), (2, 3), (2, 4)]


# Going on.


def test_what_is_missing_or_not_whole_is_painted_again_and_nothing_else(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    assert run(three, folder) == 0
    first = contents(folder)
    (folder / "00001.png").unlink()
    (folder / "00003.png").write_bytes(first["00003.png"][:-20])
    painted = watched(monkeypatch)
    assert run(three, folder) == 0
    assert painted == ["00001.png", "00003.png"]
    assert contents(folder) == first
    assert run(three, folder) == 0
    assert len(painted) == 2


def test_interrupted_it_leaves_whole_pictures_and_goes_on(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, other = tmp_path / "out", tmp_path / "other"
    with monkeypatch.context() as patch:
        painted = watched(patch, stop_at=2)
        assert run(three, folder) == 130
    assert list(contents(folder)) == painted[:1]
    assert run(three, folder) == 0
    assert run(three, other) == 0
    assert contents(folder) == contents(other)


def test_lines_may_be_added_later(file: Callable[..., Path], tmp_path: Path) -> None:
    before = [{"prompt": prompt, **CALL} for prompt in PROMPTS[:2]]
    assert run(file(*before), tmp_path / "out") == 0
    first = contents(tmp_path / "out")
    assert run(file(*before, {"prompt": "a dog", **CALL}), tmp_path / "out") == 0
    after = contents(tmp_path / "out")
    assert after.keys() - first.keys() == {"00003.png"}
    assert {name: after[name] for name in first} == first


def test_another_picture_of_that_name_stays(
    file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(file({"prompt": "a red apple", **CALL}), tmp_path / "out") == 0
    first = contents(tmp_path / "out")
    assert run(file({"prompt": "a rocket", **CALL}), tmp_path / "out") == 2
    assert "stands there and is another picture" in capsys.readouterr().err
    assert contents(tmp_path / "out") == first


# What cannot be painted.


def test_bad_lines_are_left_out_and_named(
    file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file(
        "{",
        {"prompt": "a red apple", **CALL},
        {"prompt": "a rocket", "steps": 3},
        {"prompt": "a rocket", "model": "sdxl"},
        {"prompt": "a rocket", "width": 63},
    )
    assert run(path, tmp_path / "out") == 2
    assert list(contents(tmp_path / "out")) == ["00002.png"]
    told = capsys.readouterr().err
    numbers = re.findall(r"line (\d) left out: (.+)", told)
    assert [number for number, _ in numbers] == ["1", "3", "4", "5"]
    assert "no argument 'steps'" in told
    assert "no model 'sdxl'" in told


def test_no_line_can_be_painted(
    file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(file({"prompt": "a", "width": 63}), tmp_path / "out") == 2
    assert "no line can be painted; line 1: width" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_withheld_pictures_are_named(
    three: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(batch, "made", lambda line, *_: Made(line.file, withheld="concept 3"))
    assert run(three, tmp_path / "out") == 3
    assert "line 2: withheld: concept 3" in capsys.readouterr().err


def test_without_ray_it_says_what_to_install(
    three: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run(three, tmp_path / "out", "--ray") == 2
    assert "ray is not installed; install it with: pip install" in capsys.readouterr().err


def test_progress_is_told_where_nobody_watches_bars(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 10.0, 3600.0])
    monkeypatch.setattr(batch.time, "monotonic", lambda: next(clock))
    remaining = batch.Remaining(6)
    remaining.tell()
    assert capsys.readouterr().err == ""
    remaining.tell()
    assert capsys.readouterr().err == "2 of 6 pictures; about 2 h 0 min left\n"


def watched(patch: pytest.MonkeyPatch, stop_at: int | None = None) -> list[str]:
    """The files whose lines are painted from now on; Ctrl-C comes with that one."""
    painted: list[str] = []
    paint = batch.made

    def made(line: lines.Line, *more: Any) -> Made:
        painted.append(line.file)
        if len(painted) == stop_at:
            raise KeyboardInterrupt
        return paint(line, *more)

    patch.setattr(batch, "made", made)
    return painted


def test_lines_of_one_setup_follow_each_other(file: Callable[..., Path]) -> None:
    sizes: Sequence[int] = (64, 128, 64, 128)
    read = lines.read(file(*({"prompt": "a", "width": size} for size in sizes)), 0)
    order = sorted(read.lines, key=lambda one: one.setup)
    widths = [one.asked.arguments["width"] for one in order]
    assert widths in ([64, 64, 128, 128], [128, 128, 64, 64])
